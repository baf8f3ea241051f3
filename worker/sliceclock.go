package worker

import (
	"sync/atomic"
	"time"

	"github.com/onescrape/onescrape/shmstore/quantile"
)

// sliceClock tells the slice of now to all windows with slices of one length. Reading a clock would cost an observation
// more than counting it does, and the answer changes once in minutes: so a timer sets it when it changes. A process that
// was stopped meanwhile, or that is too busy to run the timer in time, goes on in the slice before for as long.
type sliceClock struct {
	epoch atomic.Uint64 // as quantile.Window.Epoch numbers them
	shape quantile.Window
	now   func() uint64
}

// run sets the epoch, now and whenever a slice begins from now on. A process has few clocks, and they run as long as it
// does.
func (c *sliceClock) run() {
	length := c.shape.SliceLength()
	left := length - c.set()%length
	time.AfterFunc(time.Duration(left), c.run)
}

// set sets the epoch and returns the time that it is of.
func (c *sliceClock) set() (now uint64) {
	now = c.now()
	c.epoch.Store(c.shape.Epoch(now))
	return now
}

// clock returns the clock for the slices of a window. The caller holds the lock.
func (r *registry) clock(w *quantile.Window) *sliceClock {
	length := w.SliceLength()
	c := r.clocks[length]
	if c == nil {
		c = &sliceClock{shape: *w, now: r.now}
		r.startClock(c)
		r.clocks[length] = c
	}
	return c
}
