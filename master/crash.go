package master

import "time"

// A slot is in a crash loop when crashErrors of its workers in a row ended with an error, each less than crashWindow after
// READY=1. What ended before READY=1 does not count here: such a slot has no ready worker and backs off anyway.

// crashing reports whether the slot is in a crash loop.
func (sl *slot) crashing() bool { return sl.errors >= crashErrors }

// recovered forgets the errors of a slot that had them when a release took its place or a worker outlived crashWindow.
func (sl *slot) recovered() { sl.errors, sl.failures = 0, 0 }

// countEnd counts the end of a worker that served the slot towards a crash loop.
func (s *supervisor) countEnd(sl *slot, p *process) {
	lived := p.ended.Sub(p.readyAt)
	switch {
	case p.readyAt.IsZero():
	case p.erred() && lived < crashWindow:
		sl.errors++
		if sl.errors == crashErrors && !s.stopping() {
			s.log.Error("workers of this slot crash again and again after READY=1: they are started more and more slowly",
				"slot", sl.number, "errors", sl.errors, "how", p.exit(), "after_ready", lived.Round(time.Millisecond),
				"help", "the workers' own output says why; install a release that works and reload")
		}
	case p.erred() || lived >= settled:
		sl.errors = 0
	}
}

// endCrashLoops ends the crash loop of each slot whose worker has been ready for crashWindow.
func (s *supervisor) endCrashLoops(now time.Time) {
	for _, sl := range s.slots {
		if p := sl.cur; sl.crashing() && p != nil && p.state == ready && s.due(p.readyAt.Add(crashWindow), now) {
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
