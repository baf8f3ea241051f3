package accumulator

import (
	"math"
	"math/bits"
)

// CounterColumn adds up the counters of all rows of a family, as exactly as Counter does those of one: nearly all that is
// counted are whole numbers and fractions between 2^-12 and 2^52, of which no bit is below 2^-64. These are added as
// integers of 128 bits; only what does not fit is left to the slower sums of Counter.
type CounterColumn struct {
	low, fractions []uint64  // by row: what is above 1, and what is below it in units of 2^-64
	rest           []Counter // by row: what does not fit into these; nil or zero unless some
	some           bool
}

// Grow adds a row.
func (t *CounterColumn) Grow() {
	t.low, t.fractions = append(t.low, 0), append(t.fractions, 0)
	if t.rest != nil {
		t.rest = append(t.rest, Counter{})
	}
}

// Low returns the whole numbers below 2^64 of n rows. A caller may add to them as long as they do not overflow.
func (t *CounterColumn) Low(row, n int32) []uint64 { return t.low[row:][:n] }

// more returns the Counter that takes what does not fit into the words of a row.
func (t *CounterColumn) more(row int32) *Counter {
	if t.rest == nil {
		t.rest = make([]Counter, len(t.low))
	}
	t.some = true
	return &t.rest[row]
}

func (t *CounterColumn) addWhole(row int32, n, carry uint64) {
	if t.low[row], carry = bits.Add64(t.low[row], n, carry); carry != 0 {
		t.more(row).high++
	}
}

// mantissaBits is how many bits of a float64 are its mantissa.
const mantissaBits = 52

// leastFraction is the exponent, as a float64 has it, of 2^-12: the last bit of its mantissa is 2^-64.
const leastFraction = 1011

// AddCells adds a process's two cells that are not just a whole number. It returns false, and adds nothing, when one of them
// cannot be.
func (t *CounterColumn) AddCells(row int32, whole, fraction uint64) bool {
	if whole >= TooLarge || !possibleFraction(fraction) {
		return false
	}
	t.addWhole(row, whole, 0)
	t.addFraction(row, fraction)
	return true
}

// addFraction adds a process's second cell, which must be possible.
func (t *CounterColumn) addFraction(row int32, cell uint64) {
	shift := cell>>mantissaBits - leastFraction
	if shift >= 64 {
		t.more(row).addFraction(cell)
		return
	}
	mantissa := cell&(1<<mantissaBits-1) | 1<<mantissaBits
	var carry uint64
	t.fractions[row], carry = bits.Add64(t.fractions[row], mantissa<<shift, 0)
	t.addWhole(row, mantissa>>(64-shift), carry)
}

// AddCounter adds all that was added to o.
func (t *CounterColumn) AddCounter(row int32, o *Counter) {
	t.addWhole(row, o.low, 0)
	if o.high != 0 || !o.fraction.Empty() {
		c := t.more(row)
		c.high += o.high
		c.fraction.AddSum(&o.fraction)
	}
}

// Totals makes the sums of all rows, after which there must be a reset.
func (t *CounterColumn) Totals(values []float64) {
	for i, n := range t.low {
		values[i] = rounded(n, t.fractions[i])
	}
	if !t.some {
		return
	}
	for i := range t.rest {
		c := &t.rest[i]
		if c.high == 0 && c.fraction.Empty() {
			continue
		}
		// Each half of the fractions is a float64 without rounding.
		c.fraction.Add(float64(t.fractions[i]>>32) * 0x1p-32)
		c.fraction.Add(float64(t.fractions[i]&math.MaxUint32) * 0x1p-64)
		c.low = t.low[i]
		values[i] = c.Value()
	}
}

// rounded returns whole + fraction * 2^-64, to the nearest, ties to even.
func rounded(whole, fraction uint64) float64 {
	if fraction == 0 {
		return float64(whole)
	}
	zeros := bits.LeadingZeros64(whole)
	high, low := whole<<zeros|fraction>>(64-zeros), fraction<<zeros
	if low != 0 {
		// The conversion rounds below this bit's place, and has to see that there is more.
		high |= 1
	}
	return float64(high) * math.Float64frombits(uint64(1023-zeros)<<mantissaBits) // times 2^-zeros
}

func (t *CounterColumn) Reset() {
	clear(t.low)
	clear(t.fractions)
	if !t.some {
		return
	}
	for i := range t.rest {
		t.rest[i].reset()
	}
	t.some = false
}
