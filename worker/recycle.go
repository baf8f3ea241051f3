package worker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/onescrape/onescrape/worker/sdnotify"
)

// Recycle asks the master for a successor. The master starts one on the same sockets, and tells this process to drain when
// the successor is ready, as in a rolling restart. Until then this process goes on. Without a master Recycle does nothing.
// It is safe for concurrent use, and a second call has no effect.
func (w *Worker) Recycle() {
	if w.recycled.CompareAndSwap(false, true) {
		if err := w.tell("X_ONESCRAPE_RECYCLE=1"); err != nil {
			w.recycled.Store(false)
		}
	}
}

// budget counts requests down and says when they are used up; a budget of 0 is never.
type budget struct {
	limit int64
	used  atomic.Int64
}

// spend takes one and reports whether it was the last.
func (b *budget) spend() bool { return b.limit > 0 && b.used.Add(1) == b.limit }

// Healthy makes the watchdog depend on check: the worker sends WATCHDOG=1 to the master only while check returns nil. The
// context of check ends when its answer would be too late. Without Healthy every worker that runs counts as healthy.
// Without a watchdog in the master's configuration check is never called. Call Healthy before Ready. check must be safe for
// concurrent use.
func (w *Worker) Healthy(check func(context.Context) error) { w.check.Store(&check) }

// watch sends WATCHDOG=1 twice in each period in which the master expects one.
func (w *Worker) watch(period time.Duration) {
	tick := time.NewTicker(period / 2)
	defer tick.Stop()
	for {
		w.pulse(period / 2)
		select {
		case <-tick.C:
		case <-w.closed:
			return
		}
	}
}

func (w *Worker) pulse(limit time.Duration) {
	if check := w.check.Load(); check != nil && *check != nil {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if err := (*check)(ctx); err != nil {
			w.tell("STATUS=" + sdnotify.OneLine("not healthy: "+err.Error()))
			return
		}
	}
	w.tell("WATCHDOG=1")
}
