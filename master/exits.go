package master

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// exited acts on a process that has gone, once that is so and everything that it said was heard.
func (s *supervisor) exited(sl *slot, p *process) {
	if !p.reaped || !p.notifyEnded {
		return
	}
	p.gone = true
	p.notify.Close()
	delete(s.processes, p.pid)
	if r, ok := s.op.(*rolling); ok {
		r.noteEnd(p)
	}
	attrs := []any{p.id(), "how", p.exit(), "lived", p.ended.Sub(p.started).Round(time.Millisecond)}
	if p.erred() && p.text != "" {
		attrs = append(attrs, "status", p.text)
	}
	stoppedItself := sl != nil && p != sl.cur && p != sl.next && p.stoppingItself && p.erred() && !sl.retiring && !s.stopping()
	if !stoppedItself && (sl == nil || sl.cur != p || s.stopping()) {
		s.sayStopped(p, attrs)
	}
	if sl == nil {
		return
	}
	if p != sl.next && p.cause != "stop" { // else the slot never was its own
		sl.lastExit = p.exit()
	}
	if p == sl.cur || p.stoppingItself && p.cause == "" && p != sl.next {
		s.countEnd(sl, p)
	}
	sl.old = slices.DeleteFunc(sl.old, func(o *process) bool { return o == p })
	if stoppedItself {
		s.sayLost(sl, p, append(attrs, "next", max(0, time.Until(sl.retryAt)).Round(time.Millisecond), "failures", sl.failures))
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

// sayStopped logs an end that was to be expected, or that its successor in a replacement has to explain.
func (s *supervisor) sayStopped(p *process, attrs []any) {
	if p.state == draining && !p.killed {
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
	sl.restarts++
	s.counters.restart(p.reason())
	if sl.next != nil {
		s.log.Warn("worker exited", attrs...)
		sl.cur, sl.next = sl.next, nil
		return
	}
	if sl.short = temporary(p.execErr); p.execErr != nil && !sl.short {
		s.refused = p.execErr
	}
	s.sayLost(sl, p, append(attrs, "next", s.succeed(sl, p), "failures", sl.failures))
}

// sayLost logs the end of a process that served a slot, or was about to, and that nobody asked for.
func (s *supervisor) sayLost(sl *slot, p *process, attrs []any) {
	switch {
	case !p.readyAt.IsZero():
		s.log.Warn("worker exited", attrs...)
	case p.execErr == nil || sl.short || s.anyReadyOnce: // else what Run returns says it
		// One line for one trouble: the same end of the next try, or in another slot, is not news.
		level := slog.LevelError
		if s.complaint == p.exit() {
			level = slog.LevelDebug
		}
		s.complaint = p.exit()
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

// checkSockets replaces sockets that a worker has shut down: they can never accept again.
func (s *supervisor) checkSockets(slot int) {
	for _, g := range s.groups {
		if g.Intact(slot) {
			continue // else compare may have dropped it already
		}
		s.log.Warn("worker has shut its socket down, which every process that shares it feels: it is replaced; a "+
			"worker must only close it", "slot", slot, "address", g.Where())
		g.Remove(slot)
		if err := g.Add(slot); err != nil {
			s.log.Error("socket not replaced", "err", err)
		}
		s.steered = nil
	}
}
