package remnants

import (
	"os"
	"time"

	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/system"
)

// OrphanAge is how long a process that ended and that nobody here knows may wait to be reaped by whoever started it.
const OrphanAge = time.Second

// Orphans reaps, where this process is pid 1, what other processes left behind. A child that other code of this program
// started is left to that code: only what stayed a zombie for OrphanAge is taken. The nil one reaps nothing.
type Orphans struct{ seen map[int]time.Time }

// NewOrphans returns nil where this process is not process 1.
func NewOrphans() *Orphans {
	if os.Getpid() != 1 {
		return nil
	}
	return &Orphans{seen: make(map[int]time.Time)}
}

// Waiting reports whether something waits to be reaped.
func (o *Orphans) Waiting() bool { return o != nil && len(o.seen) > 0 }

// Reap takes what has waited long enough. known reports whether somebody here reaps a child itself.
func (o *Orphans) Reap(known func(pid int) bool) {
	if o == nil {
		return
	}
	now := time.Now()
	seen := make(map[int]time.Time)
	for _, pid := range proc.Zombies(1) {
		if known(pid) {
			continue
		}
		since, ok := o.seen[pid]
		if !ok {
			since = now
		}
		if now.Sub(since) >= OrphanAge {
			system.Reap(pid)
			continue
		}
		seen[pid] = since
	}
	o.seen = seen
}

// Shift makes a pause of the master's count for nothing: the code that would have reaped its child had no time to.
func (o *Orphans) Shift(d time.Duration) {
	if o == nil {
		return
	}
	for pid, since := range o.seen {
		o.seen[pid] = since.Add(d)
	}
}
