package worker

import (
	"math"
	"sync/atomic"

	"github.com/onescrape/onescrape/shmstore"
)

// What a source counts is published as last + max(0, new - old): a source that begins anew does not take the sum along,
// and one that slips back a little, as some that compute their counters do, is not counted twice.

// resetAdjustedCount is a whole number that follows a source's.
type resetAdjustedCount struct{ total, old uint64 }

// follow takes the source's new value and reports whether that has fallen.
func (c *resetAdjustedCount) follow(v uint64) (fell bool) {
	if fell = v < c.old; !fell {
		c.total += v - c.old
	}
	c.old = v
	return fell
}

// resetAdjusted is a number that follows a source's. As long as the source does not fall it is the source's to the bit,
// because what was lost is kept, and not the differences.
type resetAdjusted struct{ total, old, lost float64 }

// follow takes the new value of a counter, which is finite.
func (c *resetAdjusted) follow(v float64) {
	if v < c.old {
		c.lost = c.total - v
	}
	c.old = v
	c.total = max(c.total, v+c.lost)
}

// followSum takes the new value of a sum of observations, which may fall; began says that it has begun anew.
func (c *resetAdjusted) followSum(v float64, began bool) {
	if began {
		c.lost = c.total - v
	}
	c.old = v
	if c.total = v; c.lost != 0 { // v + 0 would make 0 of -0
		c.total = v + c.lost
	}
}

// countable reports whether a counter may have this value.
func countable(v float64) bool { return v >= 0 && v <= math.MaxFloat64 }

// storeCounter makes v, which is no less than before, the value of a counter whose cells nobody else writes to. Readers
// may come at any time, so only one of the cells ever changes: the one of whole numbers until the first fraction, then
// the other. Both together are v exactly: a fraction is left only below 2^53, where the difference to a whole number
// below it has the same last bit.
func storeCounter(cells []uint64, v float64) {
	whole := atomic.LoadUint64(&cells[shmstore.CounterInteger])
	if atomic.LoadUint64(&cells[shmstore.CounterFloat]) == 0 && v <= maxInteger && v == math.Trunc(v) {
		atomic.StoreUint64(&cells[shmstore.CounterInteger], uint64(v))
		return
	}
	atomic.StoreUint64(&cells[shmstore.CounterFloat], math.Float64bits(v-float64(whole)))
}
