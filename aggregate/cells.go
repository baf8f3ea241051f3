package aggregate

import (
	"math"
	"math/bits"

	"github.com/onescrape/onescrape/aggregate/internal/exactsum"
	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
)

// presence says who has a series: it decides whether what was deleted by some still counts.
type presence uint8

const (
	liveShown presence = 1 << iota
	liveHidden
	deadShown
	deadHidden
	archivedShown
	liveHeld // deleted, but somebody may still add to it; of a fold only
	counted  // somebody has a value of it that was not refused; of a scrape only
)

// visible tells whether a series is exposed, with everything that all members, those that have deleted it too, have
// counted. Living members decide as long as there are any that have it, then the dead, then the archive: subtracting the
// part of one that deleted it would make the sum fall part of the way, and rate() would add the whole remainder again.
func (p presence) visible() bool {
	switch {
	case p&(liveShown|liveHidden) != 0:
		return p&liveShown != 0
	case p&(deadShown|deadHidden) != 0:
		return p&deadShown != 0
	default:
		return p&archivedShown != 0
	}
}

// over tells whether a fold may forget a series: nobody shows it, and no living process holds a part of it that would be
// there again alone, as a value that has fallen part of the way, when some process makes the series anew.
func (p presence) over() bool { return !p.visible() && p&liveHeld == 0 }

// counter adds up the counters of one row: whole numbers in 128 bits, fractions without error.
type counter struct {
	low, high uint64
	fraction  exactsum.Sum
}

func (c *counter) addWhole(n uint64) {
	var carry uint64
	c.low, carry = bits.Add64(c.low, n, 0)
	c.high += carry
}

// tooLarge is where whole numbers begin that no process can have counted up to.
const tooLarge = 1 << 63

// A series of a process counts whole or not at all: with a cell that no process can have written, the others would say
// less than the process has counted, or a sum would stand beside a count that is not its own.

// possible reports whether no count is one that no process can have counted up to.
func possible(counts []uint64) bool {
	var all uint64
	for _, n := range counts {
		all |= n
	}
	return all < tooLarge
}

// possibleFraction reports whether a counter's second cell is one that a process can have written: a number from 0 on.
func possibleFraction(cell uint64) bool {
	fraction := math.Float64frombits(cell)
	return fraction >= 0 && fraction <= math.MaxFloat64
}

// addCells adds a process's two cells. It returns false, and adds nothing, when one of them cannot be.
func (c *counter) addCells(cells []uint64) bool {
	whole, fraction := cells[shmstore.CounterInteger], cells[shmstore.CounterFloat]
	if whole >= tooLarge || !possibleFraction(fraction) {
		return false
	}
	c.addWhole(whole)
	c.addFraction(fraction)
	return true
}

// addFraction adds a process's second cell, which must be possible.
func (c *counter) addFraction(cell uint64) {
	if fraction := math.Float64frombits(cell); fraction > 0 {
		c.fraction.Add(fraction)
	}
}

// total returns whole numbers and fractions together, rounded once, and changes the counter for that.
func (c *counter) total() float64 {
	if c.high == 0 && c.fraction.Empty() {
		return float64(c.low)
	}
	c.fraction.AddWhole(c.high, c.low)
	return c.fraction.Value()
}

func (c *counter) reset() {
	c.low, c.high = 0, 0
	c.fraction.Reset()
}

// addSaturated stops at the largest number: counts near it are made up, but stay monotonic.
func addSaturated(a, b uint64) uint64 {
	s, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return s
}

// gauge merges the gauges of one row by their mode.
type gauge struct {
	value    float64
	sum      exactsum.Sum
	n        int // that were set
	at       int64
	thisBoot bool
}

// add adds a value that was set, at a time that counts for mostrecent only. Of two that were set at the same time the
// one that is added later counts.
func (g *gauge) add(mode shmstore.GaugeMode, v float64, thisBoot bool, at int64) {
	first := g.n == 0
	g.n++
	switch mode {
	case shmstore.Sum, shmstore.Avg:
		g.sum.Add(v)
	case shmstore.Min:
		if first || math.IsNaN(g.value) {
			g.value = v
		} else if !math.IsNaN(v) {
			g.value = math.Min(g.value, v)
		}
	case shmstore.Max:
		if first || math.IsNaN(g.value) {
			g.value = v
		} else if !math.IsNaN(v) {
			g.value = math.Max(g.value, v)
		}
	case shmstore.MostRecent:
		if c := origin.CompareBool(thisBoot, g.thisBoot); first || c > 0 || c == 0 && at >= g.at {
			g.value, g.thisBoot, g.at = v, thisBoot, at
		}
	}
}

// merge adds all that was added to o, which was merged by the same mode.
func (g *gauge) merge(mode shmstore.GaugeMode, o *gauge) {
	switch {
	case o.n == 0:
	case mode == shmstore.Sum, mode == shmstore.Avg:
		g.n += o.n
		g.sum.AddSum(&o.sum)
	default:
		n := g.n + o.n
		g.add(mode, o.value, o.thisBoot, o.at)
		g.n = n
	}
}

// total returns the merged value.
func (g *gauge) total(mode shmstore.GaugeMode) float64 {
	switch {
	case mode == shmstore.Sum:
		return g.sum.Value()
	case mode == shmstore.Avg && g.n > 0:
		return g.sum.Value() / float64(g.n)
	default:
		return g.value
	}
}

func (g *gauge) reset() {
	g.sum.Reset()
	*g = gauge{sum: g.sum}
}
