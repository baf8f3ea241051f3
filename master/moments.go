package master

import "time"

// A moment is what a deadline counts from, or when something is due. All moments of the control goroutine are named by a
// method moments, because two things are done to all of them: a pause of the master puts them off (pauses.go), and an upgrade
// hands them over as durations, which a step of the wall clock does not change.

// timed is what has moments. Each is passed to f with the name that it has in a handover.
type timed interface {
	moments(f func(name string, t *time.Time))
}

func (s *supervisor) moments(f func(name string, t *time.Time)) {
	f("delayed", &s.delayed)
	f("quick_at", &s.quickAt)
	f("wake_at", &s.wakeAt)
	f("beat_at", &s.beatAt)
	f("term_at", &s.termAt)
	f("grow_at", &s.growAt)
}

func (p *process) moments(f func(name string, t *time.Time)) {
	f("ready_from", &p.readyFrom)
	f("ready_at", &p.readyAt)
	f("stop_at", &p.stopAt)
	f("beat", &p.beat)
	f("renew_at", &p.recycleAt)
}

func (sl *slot) moments(f func(name string, t *time.Time)) {
	f("retry_at", &sl.retryAt)
	f("waits", &sl.waits)
}

func (r *remnant) moments(f func(name string, t *time.Time)) {
	f("stop_at", &r.stopAt)
	f("killed", &r.killed)
}

func (r *retirement) moments(f func(name string, t *time.Time)) { f("began", &r.began) }

// remaining returns the moments that are set as durations from now on, negative where they are past.
func remaining(of timed, now time.Time) durations {
	out := make(durations)
	of.moments(func(name string, t *time.Time) {
		if !t.IsZero() {
			out[name] = t.Sub(now)
		}
	})
	return out
}

// restore sets the moments anew from what remaining returned. What it does not name, because the master that handed over is
// older, has the wall clock's time in the handover, which that master ended at executed.
func restore(of timed, left durations, executed, now time.Time) {
	of.moments(func(name string, t *time.Time) {
		if d, ok := left[name]; ok {
			*t = now.Add(d)
		} else if !t.IsZero() && !executed.IsZero() {
			*t = now.Add(t.Sub(executed))
		}
	})
}

// wall returns t as the wall clock has it now, whatever steps it made since t was taken.
func wall(t, now time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return now.Add(t.Sub(now))
}

// shift puts every deadline off.
func (s *supervisor) shift(d time.Duration) {
	all := []timed{s}
	for _, p := range s.processes {
		all = append(all, p)
	}
	for _, sl := range s.slots {
		all = append(all, sl)
	}
	for _, r := range s.remnants {
		all = append(all, r)
	}
	if op, ok := s.op.(timed); ok {
		all = append(all, op)
	}
	for _, of := range all {
		of.moments(func(_ string, t *time.Time) {
			if !t.IsZero() {
				*t = t.Add(d)
			}
		})
	}
	s.orphans.shift(d)
}
