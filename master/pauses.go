package master

import (
	"time"

	"github.com/onescrape/onescrape/worker/sdnotify"
)

// A master that is stopped, frozen with its container, or gets no processor must not judge its workers by the time that has
// passed meanwhile: it could not receive what they said. The kernel's clocks go on in all of these cases. So the control
// goroutine sleeps in short pieces, and when a piece took longer than planned, the rest is a pause, by which all deadlines are
// put off. And before a worker is killed for its silence, everything that it has said by then is handled (supervisor.overdue).

const (
	// sleepMost is the longest piece, where a deadline is pending: how far a worker's deadline may come closer in a pause.
	sleepMost  = 250 * time.Millisecond
	sleepLeast = 10 * time.Millisecond
	// pauseWorthAWord is the shortest pause that is logged.
	pauseWorthAWord = time.Second
)

// piece is how long the control goroutine sleeps at a time.
func (s *supervisor) piece() time.Duration {
	if s.cfg.Watchdog <= 0 {
		return sleepMost
	}
	return max(sleepLeast, min(sleepMost, s.cfg.Watchdog/8))
}

// sleep waits until something has happened or a step is due, and handles all that has happened. The last step began at began.
// It returns when the next step begins; time that passes after that belongs to the next call.
func (s *supervisor) sleep(timer *time.Timer, began time.Time) time.Time {
	for {
		var wake <-chan time.Time
		planned := s.loop.WakeAt()
		if !planned.IsZero() {
			if most := began.Add(s.piece()); most.Before(planned) {
				planned = most
			}
			timer.Reset(planned.Sub(s.loop.Now()))
			wake = timer.C
		}
		happened := s.receive(wake)
		now := s.loop.Now()
		s.overslept(planned, now)
		if happened || !now.Before(s.loop.WakeAt()) {
			return now
		}
		began = now
	}
}

// overslept puts the deadlines off when the control goroutine slept longer than planned.
func (s *supervisor) overslept(planned, now time.Time) {
	late := now.Sub(planned)
	if planned.IsZero() || late <= s.piece()/4 {
		return
	}
	if late >= pauseWorthAWord {
		s.log.Info("the master did not run for a while: all deadlines are put off", "by", late.Round(time.Millisecond))
	}
	s.shift(late)
}

// receive waits for an event or for wake, and handles all events that are there. It reports whether there was one.
func (s *supervisor) receive(wake <-chan time.Time) (happened bool) {
	select {
	case sig := <-s.events.signals:
		s.signaled(sig)
	case <-s.events.children:
		s.reap()
	case n := <-s.events.messages:
		s.handle(n)
	case finish := <-s.loop.Finished():
		finish()
	case <-wake:
		return s.receiveMore()
	}
	s.receiveMore()
	return true
}

// receiveMore handles the events that are there, without waiting, and reports whether there was one. Their number is bounded,
// so that a worker that sends without end does not hold up everything else.
func (s *supervisor) receiveMore() (happened bool) {
	for range sdnotify.MaxQueued {
		select {
		case sig := <-s.events.signals:
			s.signaled(sig)
		case <-s.events.children:
			s.reap()
		case n := <-s.events.messages:
			s.handle(n)
		case finish := <-s.loop.Finished():
			finish()
		default:
			return happened
		}
		happened = true
	}
	return happened
}

// A moment is what a deadline counts from, or when something is due. All moments of the control goroutine are named by a
// method moments, because two things are done to all of them: a pause of the master puts them off (pauses.go), and an upgrade
// hands them over as durations, which a step of the wall clock does not change.

// timed is what has moments. Each is passed to f with the name that it has in a handover.
type timed interface {
	moments(f func(name string, t *time.Time))
}

func (st *shutdown) moments(f func(name string, t *time.Time)) {
	f("delayed", &st.delayed)
	f("quick_at", &st.quickAt)
	f("term_at", &st.termAt)
}

func (g *growthState) moments(f func(name string, t *time.Time)) { f("grow_at", &g.at) }

func (a *announcer) moments(f func(name string, t *time.Time)) { f("beat_at", &a.beatAt) }

func (p *process) moments(f func(name string, t *time.Time)) {
	f("ready_from", &p.readyFrom)
	f("ready_at", &p.ReadyAt)
	f("stop_at", &p.StopAt)
	f("beat", &p.Beat)
	f("renew_at", &p.RecycleAt)
}

func (sl *slot) moments(f func(name string, t *time.Time)) {
	f("retry_at", &sl.RetryAt)
	f("waits", &sl.waits)
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

// restore sets the moments from what remaining returned. An older master names no durations; its moments are those of the wall
// clock, and it ended at executed.
func restore(of timed, left durations, executed, now time.Time) {
	of.moments(func(name string, t *time.Time) {
		if d, ok := left[name]; ok {
			*t = now.Add(d)
		} else if !t.IsZero() && !executed.IsZero() {
			*t = now.Add(t.Sub(executed))
		}
	})
}

// wall returns t on the present wall clock, without the steps that the clock made since t was taken.
func wall(t, now time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return now.Add(t.Sub(now))
}

// shift puts all deadlines off by d.
func (s *supervisor) shift(d time.Duration) {
	all := []timed{&s.shutdown, &s.requests.growth, s.announcer}
	for _, p := range s.inOrder() {
		all = append(all, p)
	}
	for _, sl := range s.slots {
		all = append(all, sl)
	}
	if op, ok := s.requests.op.(timed); ok {
		all = append(all, op)
	}
	for _, of := range all {
		of.moments(func(_ string, t *time.Time) {
			if !t.IsZero() {
				*t = t.Add(d)
			}
		})
	}
	s.loop.Shift(d)
	s.remnants.Shift(d)
}
