package master

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/onescrape/onescrape/master/internal/system"
)

// exited acts on a process that has ended, when everything that it said is handled.
func (s *supervisor) exited(sl *slot, p *process) {
	if !p.end.reaped || !p.end.handled {
		return
	}
	p.end.gone = true
	p.notify.Close()
	delete(s.processes, p.PID)
	if p.leads {
		s.remnants.Add(p.Slot, p.PID) // which reaps it, so that its pid is given out again only now
	}
	if r, ok := s.requests.op.(*rolling); ok {
		r.noteEnd(p)
	}
	attrs := []any{p.id(), "how", p.exit(), "lived", p.end.at.Sub(p.Started).Round(time.Millisecond)}
	if p.erred() && p.Text != "" {
		attrs = append(attrs, "status", p.Text)
	}
	stoppedItself := sl != nil && p != sl.cur && p != sl.next && p.StoppingItself && p.erred() && !sl.retiring && !s.stopping()
	if !stoppedItself && (sl == nil || sl.cur != p || s.stopping()) {
		s.sayStopped(p, attrs)
	}
	if sl == nil {
		return
	}
	if p != sl.next && p.Cause != "stop" { // else the slot never was the process's
		sl.LastExit = p.exit()
	}
	if p == sl.cur || p.StoppingItself && p.Cause == "" && p != sl.next {
		s.countEnd(sl, p)
	}
	sl.old = slices.DeleteFunc(sl.old, func(o *process) bool { return o == p })
	if stoppedItself {
		s.sayLost(sl, p, append(attrs, "next", max(0, sl.RetryAt.Sub(s.loop.Now())).Round(time.Millisecond), "failures", sl.Failures))
	}
	switch p {
	case sl.next:
		sl.next = nil
	case sl.cur:
		sl.cur = nil
		if !s.stopping() {
			s.lost(sl, p, attrs)
		}
	}
}

// sayStopped logs an end that was expected, or that a replacement explains.
func (s *supervisor) sayStopped(p *process, attrs []any) {
	if p.State == draining && !p.Killed {
		s.log.Info("worker stopped", attrs...)
		return
	}
	s.log.Warn("worker exited", attrs...)
}

// lost acts on the end of the process that served a slot, or was about to.
func (s *supervisor) lost(sl *slot, p *process, attrs []any) {
	if sl.retiring {
		s.sayStopped(p, attrs)
		s.succeed(sl, p) // in case one is needed still
		return
	}
	sl.Restarts++
	s.metrics.Restart(p.reason())
	if sl.next != nil {
		s.log.Warn("worker exited", attrs...)
		sl.cur, sl.next = sl.next, nil
		return
	}
	if sl.short = system.Temporary(p.end.execErr); p.end.execErr != nil && !sl.short {
		s.startup.refused = p.end.execErr
	}
	s.sayLost(sl, p, append(attrs, "next", s.succeed(sl, p), "failures", sl.Failures))
}

// sayLost logs the end of a process that served a slot, or was about to, and that nobody had asked to end.
func (s *supervisor) sayLost(sl *slot, p *process, attrs []any) {
	switch {
	case !p.ReadyAt.IsZero():
		s.log.Warn("worker exited", attrs...)
	case p.end.execErr == nil || sl.short || s.startup.progress > noneReady: // else what Run returns says it
		// One line for one trouble: the same end of the next try, or in another slot, is no error of its own.
		level := slog.LevelError
		if s.startup.repeats(p.exit()) {
			level = slog.LevelDebug
		}
		s.log.Log(context.Background(), level, "worker exited before it was ready; it is tried again, more and more slowly",
			append(attrs, "help", s.endHelp())...)
	}
}

// endHelp says what to look at when a worker ended before it was ready.
func (s *supervisor) endHelp() string {
	if len(s.cfg.Command) > 0 {
		return "its own output says why; it must take its sockets from LISTEN_FDS and go on running"
	}
	return "its own output says why; the function of Run returned, or the process died, before worker.Worker.Ready or Serve was called"
}
