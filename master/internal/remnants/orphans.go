package remnants

import (
	"time"
)

// orphanAge is how long a process that ended and that nobody here knows may wait to be reaped by whoever started it.
const orphanAge = time.Second

// orphans are, where this process is process 1, what other processes left behind. A child that other code of this program started
// is left to that code: only what stayed a zombie for orphanAge is reaped. nil: this process is not process 1.
type orphans struct{ seen map[int]time.Time } // since when a zombie is one

func newOrphans(pid int) *orphans {
	if pid != 1 {
		return nil
	}
	return &orphans{seen: make(map[int]time.Time)}
}

// ReapOrphans reaps the orphans that have waited long enough. known reports whether somebody here reaps a child itself.
func (r *Remnants) ReapOrphans(known func(pid int) bool) {
	if r.orphans == nil {
		return
	}
	now := r.loop.Now()
	seen := make(map[int]time.Time)
	for _, pid := range r.sys.Zombies(1) {
		if known(pid) || r.Has(pid) {
			continue
		}
		since, ok := r.orphans.seen[pid]
		if !ok {
			since = now
		}
		if now.Sub(since) >= orphanAge {
			r.sys.Reap(pid)
			continue
		}
		seen[pid] = since
	}
	r.orphans.seen = seen
	if len(seen) > 0 {
		r.loop.Wake(now.Add(orphanAge / 2))
	}
}

// shift makes a pause of the master's count for nothing: the code that would have reaped its child had no time to.
func (o *orphans) shift(d time.Duration) {
	if o == nil {
		return
	}
	for pid, since := range o.seen {
		o.seen[pid] = since.Add(d)
	}
}
