package worker

import (
	"context"
	"sync/atomic"
	"time"
)

// Recycle asks the master for a successor: it starts one on the same sockets, and once that is ready this process is
// told to drain, as in a rolling restart. Until then it goes on. Without a master nothing happens. Safe for concurrent
// use; asking twice is asking once.
func (w *Worker) Recycle() {
	if w.recycled.CompareAndSwap(false, true) {
		if err := w.notify.send("X_ONESCRAPE_RECYCLE=1"); err != nil {
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

// Healthy makes the watchdog depend on check: WATCHDOG=1 goes to the master only while it returns nil. A check gets a
// context that ends when its answer would come too late. Without Healthy a worker that runs is one that is well;
// without a watchdog in the master's configuration check is never called. Call it before Ready; safe for concurrent
// use.
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
			w.notify.send("STATUS=" + oneLine("not healthy: "+err.Error()))
			return
		}
	}
	w.notify.send("WATCHDOG=1")
}
