package master

import (
	"os"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master/internal/proc"
)

// orphanAge is how long a process that ended and that nobody here knows may wait to be reaped by whoever started it.
const orphanAge = time.Second

// orphans reaps, where this process is pid 1, what other processes left behind. A child that other code of this program
// started is left to that code: only what stayed a zombie for orphanAge is taken. The nil one reaps nothing.
type orphans struct{ seen map[int]time.Time }

func newOrphans() *orphans {
	if os.Getpid() != 1 {
		return nil
	}
	return &orphans{seen: make(map[int]time.Time)}
}

func (o *orphans) waiting() bool { return o != nil && len(o.seen) > 0 }

func (o *orphans) reap(known func(pid int) bool) {
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
		if now.Sub(since) >= orphanAge {
			syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
			continue
		}
		seen[pid] = since
	}
	o.seen = seen
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
