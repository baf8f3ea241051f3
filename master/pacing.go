package master

import (
	"slices"
	"time"
)

const (
	backoffFirst = 25 * time.Millisecond
	backoffMost  = 30 * time.Second
	// settled is how long a worker must have been ready to count as one that works. If it ends after that, its successor
	// starts at once.
	settled = 5 * time.Second
	// crashWindow is how long after READY=1 an error counts towards a crash loop. Some servers say READY=1 before they have
	// loaded anything, so a broken release can be ready for quite a while.
	crashWindow = time.Minute
	// crashErrors is how many errors in a row are a crash loop.
	crashErrors = 3
	// patience is how many failures in a row make a slot failed: it is still tried again, at the longest interval.
	patience = 7
)

// backoff returns how long to wait after so many failures in a row. Half of it is a random share, from 0 to 1, so that slots that
// failed for one reason do not all come back at once.
func backoff(failures int, share float64) time.Duration {
	if failures <= 0 {
		return 0
	}
	d := backoffMost
	if shift := failures - 1; shift < 11 {
		d = min(d, backoffFirst<<shift)
	}
	return d/2 + time.Duration(share*float64(d/2))
}

// jittered spreads v by up to the share either way, as the random number from 0 to 1 says.
func jittered[T ~int64](v T, share, random float64) T {
	if v <= 0 || share <= 0 {
		return v
	}
	return max(1, T(float64(v)*(1+share*(2*random-1))))
}

// A slot is in a crash loop when crashErrors of its workers in a row ended with an error, each less than crashWindow after
// READY=1. What ended before READY=1 does not count here: such a slot has no ready worker and backs off anyway.

// crashing reports whether the slot is in a crash loop.
func (sl *slot) crashing() bool { return sl.Errors >= crashErrors }

// recovered forgets the errors of a slot that had them when a release took its place or a worker outlived crashWindow.
func (sl *slot) recovered() { sl.Errors, sl.Failures = 0, 0 }

// countEnd counts the end of a worker that served the slot towards a crash loop.
func (s *supervisor) countEnd(sl *slot, p *process) {
	lived := p.end.at.Sub(p.ReadyAt)
	switch {
	case p.ReadyAt.IsZero():
	case p.erred() && lived < crashWindow:
		sl.Errors++
		if sl.Errors == crashErrors && !s.stopping() {
			s.log.Error("workers of this slot crash again and again after READY=1: they are started more and more slowly",
				"slot", sl.number, "errors", sl.Errors, "how", p.exit(), "after_ready", lived.Round(time.Millisecond),
				"help", "the workers' own output says why; install a release that works and reload")
		}
	case p.erred() || lived >= settled:
		sl.Errors = 0
	}
}

// endCrashLoops ends the crash loop of each slot whose worker has been ready for crashWindow.
func (s *supervisor) endCrashLoops(now time.Time) {
	for _, sl := range s.slots {
		if p := sl.cur; sl.crashing() && p != nil && p.State == ready && s.loop.Due(p.ReadyAt.Add(crashWindow), now) {
			sl.recovered()
			s.log.Info("the crash loop is over: the worker has been ready for a while", p.id(), "for", crashWindow)
		}
	}
}

// allCrashing reports whether every slot is in a crash loop.
func (s *supervisor) allCrashing() bool {
	for _, sl := range s.slots {
		if !sl.crashing() {
			return false
		}
	}
	return len(s.slots) > 0
}

// targets reports, by slot, whether new connections are steered there, at an address that was opened by the upgrade of that number.
// These are the slots that accept, with a worker that has the address. A slot whose last
// worker failed gets none until its worker has settled, unless no other slot accepts.
func (s *supervisor) targets(since int) []bool {
	now := s.loop.Now()
	accepting, trusted := make([]bool, len(s.slots)), make([]bool, len(s.slots))
	some := false
	for i, sl := range s.slots {
		accepting[i] = sl.accepts() && sl.cur.Epoch >= since
		trusted[i] = accepting[i] && (!sl.Suspect || s.loop.Due(sl.cur.ReadyAt.Add(settled), now))
		some = some || trusted[i]
	}
	switch {
	case some:
		return trusted
	case !slices.Contains(accepting, true) && s.givesUp():
		// Nobody accepts, and the last program may name sockets that are to be closed.
		for i, sl := range s.slots {
			accepting[i] = !sl.retiring
		}
	}
	return accepting
}

// givesUp reports whether sockets of a slot are about to be closed.
func (s *supervisor) givesUp() bool {
	return len(s.sockets.Closing()) > 0 || slices.ContainsFunc(s.slots, func(sl *slot) bool { return sl.retiring })
}

// queueWait is how long a slot waits for its next worker at most while connections wait in its queue, whatever its backoff is.
// Nobody else can answer them.
const queueWait = 500 * time.Millisecond

// startDue reports whether a slot without a process should get one now.
func (s *supervisor) startDue(sl *slot, now time.Time) bool {
	if s.loop.Due(sl.RetryAt, now) {
		return true
	}
	if s.sockets.Queued(sl.number) {
		return s.loop.Due(sl.waits.Add(queueWait), now)
	}
	s.loop.Wake(now.Add(queueWait)) // nobody tells when a connection comes
	return false
}
