package master

import (
	"context"
	"errors"
	"log/slog"
	"syscall"
	"time"
)

// slot is one worker's place: its number, its sockets (in the groups) and its processes. The control goroutine owns it.
type slot struct {
	number   int
	cur      *process   // the one that serves, or will
	next     *process   // its successor, in a replacement
	old      []*process // predecessors that drain
	retiring bool       // it is being given up: no process is started any more

	restarts int
	lastExit string
	started  time.Time // of the last process
	failures int       // in a row
	errors   int       // in a row, of workers that had said READY=1; see crashing
	retryAt  time.Time // of the next start, when there is no process
	waits    time.Time // since when there is none
	short    bool      // the last start failed for want of something that may be there later
	suspect  bool      // the last worker failed: the next one must settle before connections are steered to it
}

// state is the slot's state: that of its process, or how it waits for one.
func (sl *slot) state() string {
	switch {
	case sl.cur != nil && sl.retiring:
		return draining
	case sl.cur != nil:
		return sl.cur.state
	case len(sl.old) > 0:
		return draining
	case sl.failures >= patience:
		return failed
	}
	return waiting
}

// accepts reports whether somebody accepts connections on the slot's sockets.
func (sl *slot) accepts() bool {
	return sl.cur != nil && sl.cur.state == ready && !sl.cur.stoppingItself && !sl.retiring
}

// empty reports whether the slot has no process left.
func (sl *slot) empty() bool { return sl.cur == nil && sl.next == nil && len(sl.old) == 0 }

func (sl *slot) status() Slot {
	out := Slot{Slot: sl.number, State: sl.state(), Started: sl.started, Restarts: sl.restarts, LastExit: sl.lastExit,
		CrashLoop: sl.crashing()}
	p := sl.cur
	if p == nil && len(sl.old) > 0 {
		p = sl.old[len(sl.old)-1]
	}
	if p != nil {
		out.PID, out.Started, out.Text = p.pid, p.started, p.text
		if p.release != nil {
			out.Release = p.release.Number
		}
	}
	return out
}

// start gives the slot a process.
func (s *supervisor) start(sl *slot) {
	dir, err := s.dirOf(sl)
	var p *process
	if err == nil {
		p, err = s.launch(sl.number, dir)
	}
	if err != nil {
		sl.lastExit, sl.suspect, sl.short = err.Error(), true, temporary(err)
		wait := s.failed(sl)
		if errors.As(err, new(unexecutable)) && !sl.short {
			s.refused = err
		}
		if s.refused == nil || s.anyReadyOnce { // else what Run returns says it
			s.log.Log(context.Background(), s.levelOf(err), "worker not started", "slot", sl.number, "err", err, "failures",
				sl.failures, "next", wait)
		}
		return
	}
	sl.cur, sl.started, sl.short = p, p.started, false
}

// levelOf returns the level at which an error of a start is logged: one line for one shortage, which every slot meets.
func (s *supervisor) levelOf(err error) slog.Level {
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return slog.LevelError
	}
	if s.complaint == errno.Error() {
		return slog.LevelDebug
	}
	s.complaint = errno.Error()
	return slog.LevelError
}

// failed notes one more failure of a slot that has no process now, and returns when it is tried again.
func (s *supervisor) failed(sl *slot) time.Duration {
	sl.failures++
	return s.retry(sl, backoff(sl.failures))
}

// retry has a slot that has no process now tried again after a while.
func (s *supervisor) retry(sl *slot, wait time.Duration) time.Duration {
	sl.waits = time.Now()
	sl.retryAt = sl.waits.Add(wait)
	s.wake(sl.retryAt)
	return wait.Round(time.Millisecond)
}

// succeed has a slot whose process went start another, and returns when: at once if that one had worked, later if not.
// A worker that ended well before it had settled may be one that lives for a few requests only: its successor starts
// when it would have settled, at the latest.
func (s *supervisor) succeed(sl *slot, p *process) time.Duration {
	lived := time.Since(p.readyAt)
	sl.suspect = p.readyAt.IsZero() || p.erred() && (lived < settled || sl.crashing())
	switch {
	case p.readyAt.IsZero():
		return s.failed(sl)
	case sl.errors >= crashErrors:
		sl.failures = max(sl.failures, sl.errors-1)
		return s.failed(sl)
	case lived >= settled:
		sl.failures = 0
		return s.retry(sl, 0)
	case p.erred():
		return s.failed(sl)
	}
	sl.failures++
	return s.retry(sl, min(backoff(sl.failures), settled-lived))
}

// stop tells a process to drain; reason is what its end counts as.
func (s *supervisor) stop(p *process, reason string) {
	if p.state == draining && !p.stopAt.IsZero() && p.cause != "" {
		return
	}
	p.cause = reason
	if p.state != draining {
		p.state, p.stopAt = draining, time.Now()
	}
	if !p.stoppingItself { // else it knows, and many programs take a second signal for impatience
		p.signal(s.cfg.stopSignal())
	}
}

// kill ends a process that does not do what it should.
func (s *supervisor) kill(p *process, reason string) {
	if p.killed {
		return
	}
	p.killed = true
	if p.cause == "" {
		p.cause = reason
	}
	p.signal(syscall.SIGKILL)
}

// slotOf returns the slot of a process; nil when it was given up.
func (s *supervisor) slotOf(p *process) *slot {
	for _, sl := range s.slots {
		if sl.number == p.slot {
			return sl
		}
	}
	return nil
}
