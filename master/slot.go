package master

import (
	"context"
	"errors"
	"log/slog"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master/internal/system"
)

// slot is one worker's place: its number and its processes. The control goroutine owns it.
type slot struct {
	slotState // is handed over by an upgrade

	number   int
	cur      *process   // the one that serves, or will
	next     *process   // its successor, in a replacement
	old      []*process // predecessors that drain
	retiring bool       // it is being given up: no process is started any more
	waits    time.Time  // since when there is no process
	short    bool       // the last start failed for want of something that may be there later
}

// slotState is what an upgrade hands over of a slot, beside its processes.
type slotState struct {
	Restarts int       `json:"restarts"`
	LastExit string    `json:"last_exit"`
	Started  time.Time `json:"started"`           // of the last process
	Failures int       `json:"failures"`          // in a row
	Errors   int       `json:"errors,omitempty"`  // in a row, of workers that had said READY=1; see crashing
	Suspect  bool      `json:"suspect,omitempty"` // the last worker failed: the next one must settle before it gets new connections
	RetryAt  time.Time `json:"retry_at"`          // of the next start, when there is no process
}

// state is the slot's state: that of its process, or how it waits for one.
func (sl *slot) state() string {
	switch {
	case sl.cur != nil && sl.retiring:
		return draining
	case sl.cur != nil:
		return sl.cur.State
	case len(sl.old) > 0:
		return draining
	case sl.Failures >= patience:
		return failed
	}
	return waiting
}

// accepts reports whether a worker accepts connections on the slot's sockets.
func (sl *slot) accepts() bool {
	return sl.cur != nil && sl.cur.State == ready && !sl.cur.StoppingItself && !sl.retiring
}

// empty reports whether the slot has no process left.
func (sl *slot) empty() bool { return sl.cur == nil && sl.next == nil && len(sl.old) == 0 }

func (sl *slot) status() Slot {
	out := Slot{Slot: sl.number, State: sl.state(), Started: sl.Started, Restarts: sl.Restarts, LastExit: sl.LastExit,
		CrashLoop: sl.crashing()}
	p := sl.cur
	if p == nil && len(sl.old) > 0 {
		p = sl.old[len(sl.old)-1]
	}
	if p != nil {
		out.PID, out.Started, out.Text = p.PID, p.Started, p.Text
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
		sl.LastExit, sl.Suspect, sl.short = err.Error(), true, system.Temporary(err)
		wait := s.failed(sl)
		if s.startup.refused == nil || s.startup.progress > noneReady { // else what Run returns says it
			s.log.Log(context.Background(), s.levelOf(err), "worker not started", "slot", sl.number, "err", err, "failures",
				sl.Failures, "next", wait)
		}
		return
	}
	sl.cur, sl.Started, sl.short = p, p.Started, false
}

// levelOf returns the level at which the error of a start is logged. A shortage meets every slot, and only the first line about
// it is an error.
func (s *supervisor) levelOf(err error) slog.Level {
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return slog.LevelError
	}
	if s.startup.repeats(errno.Error()) {
		return slog.LevelDebug
	}
	return slog.LevelError
}

// failed counts one more failure of a slot without a process, and returns how long the slot waits for the next try.
func (s *supervisor) failed(sl *slot) time.Duration {
	sl.Failures++
	return s.retry(sl, backoff(sl.Failures, s.sys.Random()))
}

// retry schedules the next try of a slot without a process. It returns the time to wait, rounded for the log.
func (s *supervisor) retry(sl *slot, wait time.Duration) time.Duration {
	sl.waits = s.loop.Now()
	sl.RetryAt = sl.waits.Add(wait)
	s.loop.Wake(sl.RetryAt)
	return wait.Round(time.Millisecond)
}

// succeed schedules the next process of a slot whose process has ended, and returns how long the slot waits: not at all if the
// process had worked, longer if not. A worker that ended without an error before it had settled may be one that lives for a few
// requests only. Its successor starts at the latest when the worker would have settled.
func (s *supervisor) succeed(sl *slot, p *process) time.Duration {
	lived := s.loop.Now().Sub(p.ReadyAt)
	sl.Suspect = p.ReadyAt.IsZero() || p.erred() && (lived < settled || sl.crashing())
	switch {
	case p.ReadyAt.IsZero():
		return s.failed(sl)
	case sl.Errors >= crashErrors:
		sl.Failures = max(sl.Failures, sl.Errors-1)
		return s.failed(sl)
	case lived >= settled:
		sl.Failures = 0
		return s.retry(sl, 0)
	case p.erred():
		return s.failed(sl)
	}
	sl.Failures++
	return s.retry(sl, min(backoff(sl.Failures, s.sys.Random()), settled-lived))
}

// stop tells a process to drain. reason is the value of the label reason under which its end is counted.
func (s *supervisor) stop(p *process, reason string) {
	if p.State == draining && !p.StopAt.IsZero() && p.Cause != "" {
		return
	}
	p.Cause = reason
	if p.State != draining {
		p.State, p.StopAt = draining, s.loop.Now()
	}
	if !p.StoppingItself { // else it knows, and many programs take a second signal for impatience
		s.signal(p, s.cfg.stopSignal())
	}
}

// kill sends KILL to a process that did not do in time what it should.
func (s *supervisor) kill(p *process, reason string) {
	if p.Killed {
		return
	}
	p.Killed = true
	if p.Cause == "" {
		p.Cause = reason
	}
	s.signal(p, syscall.SIGKILL)
}

// slotOf returns the slot of a process; nil when it was given up.
func (s *supervisor) slotOf(p *process) *slot {
	for _, sl := range s.slots {
		if sl.number == p.Slot {
			return sl
		}
	}
	return nil
}
