// Package quantile has what a summary with objectives keeps beside its count and sum: the slices of its sliding window, sketches of
// the observations, and the resolution of the buckets.
package quantile

import (
	"math"
	"sync/atomic"
)

// Resolution cuts every octave, the numbers from one power of two up to the next, into the same number of buckets, whose
// bounds have equal ratios. It is the logarithmic bucketing of DDSketch (Masson, Rim, Lee: DDSketch: A Fast and
// Fully-Mergeable Quantile Sketch with Relative-Error Guarantees, PVLDB 12(12), 2019): buckets with bounds in the ratio
//
//	gamma = (1 + error) / (1 - error)
//
// hold no number that is further than error, relative to itself, from 2·low·high/(low + high). Here gamma is a root of
// two, so that the exponent of a float64 says the octave and a small table the bucket in it: no logarithm is computed and
// nothing approximated. A Resolution is never changed and safe for concurrent use.
type Resolution struct {
	n      int
	start  [1 << startBits]uint8     // the bucket of the least mantissa that begins with these bits
	bounds [MaxResolution + 2]uint64 // the least mantissa of each bucket; behind the last, one that there is not
	middle [MaxResolution]float64    // of the buckets from 1 up to 2
}

// MaxResolution is the largest number of buckets of an octave. It gives a relative error of 0.14 %.
const MaxResolution = 255

// startBits is as many bits of the mantissa as tell any two bounds of MaxResolution apart.
const (
	startBits    = 9
	mantissaBits = 52
	mantissaMask = 1<<mantissaBits - 1
)

var resolutions [MaxResolution + 1]atomic.Pointer[Resolution]

// NewResolution returns the resolution of n buckets an octave, from 1 to MaxResolution.
func NewResolution(n int) *Resolution {
	if r := resolutions[n].Load(); r != nil {
		return r
	}
	r := &Resolution{n: n}
	for i := 1; i < n; i++ {
		r.bounds[i] = math.Float64bits(math.Exp2(float64(i)/float64(n))) & mantissaMask
	}
	for i := n; i < len(r.bounds); i++ {
		r.bounds[i] = 1 << mantissaBits
	}
	i := 0
	for c := range r.start {
		for r.bounds[i+1] <= uint64(c)<<(mantissaBits-startBits) {
			i++
		}
		r.start[c] = uint8(i)
	}
	for i := range n {
		low, high := r.bound(i), r.bound(i+1)
		r.middle[i] = 2 * low * high / (low + high)
	}
	resolutions[n].Store(r)
	return r
}

func (r *Resolution) bound(i int) float64 { return 1 + float64(r.bounds[i])/(1<<mantissaBits) }

// ResolutionFor returns how many buckets an octave needs for a relative error, at most MaxResolution.
func ResolutionFor(relativeError float64) int {
	n := math.Ceil(math.Ln2 / math.Log((1+relativeError)/(1-relativeError)))
	return int(min(max(n, 1), MaxResolution))
}

// Error returns how far, relative to itself, a number can be from the middle of its bucket.
func (r *Resolution) Error() float64 {
	gamma := math.Exp2(1 / float64(r.n))
	return (gamma - 1) / (gamma + 1)
}

// Buckets returns the number of buckets of an octave.
func (r *Resolution) Buckets() int { return r.n }

// Bucket returns the bucket of a number in its octave, by the bits of the float64. The sign and the exponent do not matter.
func (r *Resolution) Bucket(bits uint64) int {
	i := int(r.start[bits>>(mantissaBits-startBits)&(1<<startBits-1)])
	// No two bounds have the same first bits, so at most one lies between the least mantissa of these and this one.
	if bits&mantissaMask >= r.bounds[i+1] {
		i++
	}
	return i
}

// Octaves is the number of octaves that have buckets: from 2^-64 (5e-20) up to 2^64 (1.8e19), of both signs.
const (
	Octaves       = 2 * octavesOfSign
	octavesOfSign = 128
	leastExponent = 1023 - 64 // as a float64 has it
)

// Octave returns the number of the octave of a float64 by its bits: from 0 on for positive and from 128 on for negative
// numbers, in the order of the magnitude. ok is false for numbers in no octave: zero and what is as good as zero, numbers so
// large that they count as infinite, and NaN.
func Octave(bits uint64) (octave uint64, ok bool) {
	octave = bits>>mantissaBits&0x7ff - leastExponent
	return octave | bits>>63*octavesOfSign, octave < octavesOfSign
}

// value returns the middle of a bucket.
func (r *Resolution) value(octave uint8, bucket int) float64 {
	v := math.Ldexp(r.middle[bucket], int(octave%octavesOfSign)+leastExponent-1023)
	if octave >= octavesOfSign {
		return -v
	}
	return v
}
