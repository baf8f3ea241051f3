package nativehist

import (
	"math"
	"math/bits"
)

// The schemas that there are, from 65536-fold buckets to those of 1.0027.
const (
	MinSchema = -4
	MaxSchema = 8
)

// Schema returns the schema of the widest buckets that grow by no more than factor, which is above 1, from one to the next;
// the nearest that there is where no schema does. It is client_golang's choice for a NativeHistogramBucketFactor.
func Schema(factor float64) int {
	floor := math.Floor(math.Log2(math.Log2(factor)))
	return -int(min(max(floor, -MaxSchema), -MinSchema))
}

// fine is the schema that numbers are computed at first: those of all others follow by shifts.
const (
	fine        = MaxSchema
	perDoubling = 1 << fine
	mantissa    = 52
)

// The bounds of the finest schema between 1 and 2 as the mantissas of float64s, and for each of 512 steps of that range the
// first bound that is not below it. At most two bounds lie in one step. The last bound is 2.
var (
	bounds [perDoubling + 2]uint64
	first  [2 * perDoubling]uint16
)

// factors are 2^(2^-schema), from schema 0 on, rounded as they were when those bounds were computed.
var factors = [fine + 1]float64{2, 1.414213562373095, 1.189207115002721, 1.0905077326652577, 1.0442737824274138,
	1.0218971486541166, 1.0108892860517005, 1.0054299011128027, 1.0027112750502025}

// The bounds have to be the very float64s that Prometheus and its libraries have, which are not all rounded to the nearest:
// of each schema the even ones are those of the schema before, and an odd one is its predecessor times the factor.
func init() {
	all := []float64{0.5}
	for _, factor := range factors[1:] {
		next := make([]float64, 0, 2*len(all))
		for _, b := range all {
			next = append(next, b, b*factor)
		}
		all = next
	}
	for i, b := range all {
		bounds[i] = math.Float64bits(b) & (1<<mantissa - 1)
	}
	bounds[perDoubling], bounds[perDoubling+1] = 1<<mantissa, 1<<mantissa
	for step, i := 0, 0; step < len(first); step++ {
		for bounds[i] < uint64(step)<<(mantissa-fine-1) {
			i++
		}
		first[step] = uint16(i)
	}
}

// lastFine is the number of the largest float64's bucket at the finest schema.
const lastFine = perDoubling * 1024

// The numbers of buckets that a float64 can have at the finest schema: from that of the smallest one to that of infinity.
const (
	minFine = -perDoubling * 1074
	maxFine = lastFine + 1
)

// coarser returns the number, after shift steps to a coarser schema, of the bucket that has bucket i.
func coarser(i int, shift uint) int { return (i + 1<<shift - 1) >> shift }

// Bucket returns the number of the bucket of |v|, which is neither 0 nor a NaN, at a schema that is shift below MaxSchema.
func Bucket(v float64, shift uint) int {
	b := math.Float64bits(v) &^ (1 << 63)
	exponent := int(b >> mantissa)
	m := b & (1<<mantissa - 1)
	if uint(exponent-1) >= 0x7fe { // subnormal or infinite
		if exponent != 0 {
			return coarser(lastFine, shift) + 1
		}
		up := bits.LeadingZeros64(m) - (63 - mantissa)
		exponent, m = 1-up, m<<up&(1<<mantissa-1)
	}
	i := uint64(first[m>>(mantissa-fine-1)])
	// One more for each bound below m, without a branch that nobody could foretell.
	i += (bounds[i] - m) >> 63
	i += (bounds[i] - m) >> 63
	return coarser(int(i)+(exponent-1023)*perDoubling, shift)
}

// Upper returns the upper bound of bucket i of the positive side: the largest float64 for the last but one, +Inf for the
// last.
func Upper(i, schema int) float64 {
	if last := coarser(lastFine, uint(fine-schema)); i >= last {
		if i == last {
			return math.MaxFloat64
		}
		return math.Inf(1)
	}
	at := i << uint(fine-schema)
	return math.Ldexp(math.Float64frombits(bounds[at&(perDoubling-1)]|1023<<mantissa), at>>fine)
}
