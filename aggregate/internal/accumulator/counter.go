package accumulator

import (
	"math"
	"math/bits"

	"github.com/onescrape/onescrape/aggregate/internal/exactsum"
	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
)

// Counter adds up the counters of one series: whole numbers in 128 bits, fractions without error.
type Counter struct {
	low, high uint64
	fraction  exactsum.Sum
}

func (c *Counter) addWhole(n uint64) {
	var carry uint64
	c.low, carry = bits.Add64(c.low, n, 0)
	c.high += carry
}

// AddCells adds the two cells of a process's counter.
func (c *Counter) AddCells(_ *shmstore.Family, _ *origin.Origin, cells []uint64) bool {
	whole, fraction := cells[shmstore.CounterInteger], cells[shmstore.CounterFloat]
	if whole >= TooLarge || !possibleFraction(fraction) {
		return false
	}
	c.addWhole(whole)
	c.addFraction(fraction)
	return true
}

// addFraction adds a process's second cell, which must be possible.
func (c *Counter) addFraction(cell uint64) {
	if fraction := math.Float64frombits(cell); fraction > 0 {
		c.fraction.Add(fraction)
	}
}

// AppendWords appends the whole numbers' sum in 128 bits, low word first, and the fractions' sum.
func (c *Counter) AppendWords(w []uint64) []uint64 {
	return c.fraction.AppendWords(append(w, c.low, c.high))
}

func (c *Counter) read(r *wordReader, _ bool) {
	c.low, c.high = r.next(), r.next()
	c.fraction = r.sum()
	r.bad = r.bad || !c.fraction.Finite() || c.fraction.Value() < 0
}

// Value returns whole numbers and fractions together, rounded once, and changes the counter for that.
func (c *Counter) Value() float64 {
	if c.high == 0 && c.fraction.Empty() {
		return float64(c.low)
	}
	c.fraction.AddWhole(c.high, c.low)
	return c.fraction.Value()
}

func (c *Counter) reset() {
	c.low, c.high = 0, 0
	c.fraction.Reset()
}
