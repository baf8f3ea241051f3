package master

import (
	"os"
	"time"

	"github.com/onescrape/onescrape/worker/sdnotify"
)

// A master that is stopped, frozen with its container, or gets no processor must not judge its workers by the time that has
// passed meanwhile: it has not heard them. The kernel's clocks go on in all of these cases. So the control goroutine sleeps
// in short pieces, and when a piece took longer than planned, the rest is a pause, by which all deadlines are put off. And
// before a worker is killed for its silence, everything that it has said by then is heard (supervisor.overdue).

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

// sleep waits until something has happened or a step is due, and handles all that has happened. The last step began at
// began. It returns the time of the next one: whatever is slept after that belongs to the next call.
func (s *supervisor) sleep(children <-chan os.Signal, timer *time.Timer, began time.Time) time.Time {
	for {
		var wake <-chan time.Time
		planned := s.wakeAt
		if !planned.IsZero() {
			if most := began.Add(s.piece()); most.Before(planned) {
				planned = most
			}
			timer.Reset(time.Until(planned))
			wake = timer.C
		}
		happened := s.receive(children, wake)
		now := time.Now()
		s.overslept(planned, now)
		if happened || !now.Before(s.wakeAt) {
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

// receive waits for something to happen, and reports false when it was only the time. It handles what happened and what
// else has, as far as it is here.
func (s *supervisor) receive(children <-chan os.Signal, wake <-chan time.Time) (happened bool) {
	select {
	case sig := <-s.signals:
		s.signaled(sig)
	case <-children:
		s.reap()
	case n := <-s.messages:
		s.handle(n)
	case <-s.checked:
	case finish := <-s.finished:
		finish()
	case <-wake:
		return s.receiveMore(children)
	}
	s.receiveMore(children)
	return true
}

// receiveMore handles what has happened, without waiting, and reports whether anything has. There is a bound, so that a
// worker that speaks without end does not keep the rest from its turn.
func (s *supervisor) receiveMore(children <-chan os.Signal) (happened bool) {
	for range sdnotify.MaxQueued {
		select {
		case sig := <-s.signals:
			s.signaled(sig)
		case <-children:
			s.reap()
		case n := <-s.messages:
			s.handle(n)
		case <-s.checked:
		case finish := <-s.finished:
			finish()
		default:
			return happened
		}
		happened = true
	}
	return happened
}
