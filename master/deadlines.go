package master

import (
	"log/slog"
	"time"
)

// watch kills a process that is too slow, and requests a successor for one that is too old.
func (s *supervisor) watch(p *process, now time.Time) {
	if p.end.reaped || p.Killed {
		return
	}
	switch p.State {
	case starting:
		s.lookAtFork(p, now)
		if !s.overdue(p, p.readyFrom.Add(s.cfg.ReadyTimeout), now) {
			return
		}
		if len(s.cfg.Command) > 0 && s.startup.protocol != saysWhenReady {
			s.log.Warn("worker has not said READY=1 but runs: it is taken as ready; a server that speaks sd_notify is better",
				p.id(), "after", s.cfg.ReadyTimeout)
			s.markReady(p)
			return
		}
		s.log.Error("worker is not ready in time and is killed", p.id(), "after", s.cfg.ReadyTimeout,
			"help", s.readyHelp()+"; if it needs longer, raise the ready timeout")
		s.kill(p, "not_ready")
	case ready:
		if s.cfg.Watchdog > 0 && s.startup.protocol == saysWhenReady && s.overdue(p, p.Beat.Add(s.cfg.Watchdog), now) {
			s.log.Error("worker gave no sign of life and is killed", p.id(), "since", now.Sub(p.Beat).Round(time.Millisecond))
			s.kill(p, "watchdog")
		}
		if !p.RecycleAt.IsZero() && !p.recycleRequested && s.loop.Due(p.RecycleAt, now) {
			p.recycleRequested = true
		}
	case draining:
		if s.overdue(p, p.StopAt.Add(s.cfg.GracefulTimeout), now) {
			s.log.Warn("worker did not stop in time and is killed", p.id(), "after", s.cfg.GracefulTimeout)
			s.kill(p, p.Cause)
		}
	}
}

// overdue reports whether the time of a worker was over at t, although everything that the worker has said by now is handled
// and it has not ended. It does not wait. The first call after t asks the reader of the worker's socket for what is there. When
// the answer is handled and the time is still over, a later call returns true.
func (s *supervisor) overdue(p *process, t, now time.Time) bool {
	if !s.loop.Due(t, now) {
		p.look.asked = 0
		return false
	}
	if s.reapOne(p); p.end.reaped {
		return false
	}
	if p.look.asked == 0 {
		p.look.asked = p.notify.Look()
	}
	return p.end.handled || p.look.answered == p.look.asked
}

// forkLook is when the master looks whether a worker that is not ready has forked.
const forkLook = 2 * time.Second

// lookAtFork logs when a command has started another process before it was ready. If that process is the server, it cannot take
// its sockets.
func (s *supervisor) lookAtFork(p *process, now time.Time) {
	if p.forkChecked || s.startup.protocol == saysWhenReady || len(s.cfg.Command) == 0 || !s.loop.Due(p.readyFrom.Add(min(forkLook, s.cfg.ReadyTimeout)), now) {
		return
	}
	p.forkChecked = true
	if kids := s.sys.Children(p.PID); len(kids) > 0 {
		s.log.Warn("the command has started other processes and is not ready: if one of them is the server, it cannot take "+
			"its sockets, which are for the process that was started (LISTEN_PID); in a shell script start the server with exec",
			p.id(), slog.Any("children", kids))
	}
}

// readyHelp says what a worker must do to be ready.
func (s *supervisor) readyHelp() string {
	if len(s.cfg.Command) > 0 {
		return "it must say READY=1 on NOTIFY_SOCKET"
	}
	return "it must call worker.Worker.Ready when it accepts connections, or Serve, which does"
}
