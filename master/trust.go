package master

import "time"

// targets reports, by slot, whether new connections are steered there: to the slots that accept. One whose last worker
// failed waits until its worker has settled, unless no other slot accepts.
func (s *supervisor) targets(now time.Time) []bool {
	accepting, trusted := make([]bool, len(s.slots)), make([]bool, len(s.slots))
	some := false
	for i, sl := range s.slots {
		accepting[i] = sl.accepts()
		trusted[i] = accepting[i] && (!sl.suspect || s.due(sl.cur.readyAt.Add(settled), now))
		some = some || trusted[i]
	}
	if some {
		return trusted
	}
	return accepting
}

// among makes a list by slot a function.
func among(list []bool) func(slot int) bool {
	return func(slot int) bool { return slot >= 0 && slot < len(list) && list[slot] }
}

// queueWait is how long after the end of its last worker a slot gets another one, whatever its backoff, while
// connections wait in its queue: nobody else can answer them.
const queueWait = 500 * time.Millisecond

// startDue reports whether a slot without a process is to get one now.
func (s *supervisor) startDue(sl *slot, now time.Time) bool {
	if s.due(sl.retryAt, now) {
		return true
	}
	if s.queued(sl.number) {
		return s.due(sl.waits.Add(queueWait), now)
	}
	s.wake(now.Add(queueWait)) // nobody tells when a connection comes
	return false
}
