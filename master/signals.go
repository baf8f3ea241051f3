package master

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

func notifyChildren(c chan<- os.Signal) { signal.Notify(c, syscall.SIGCHLD) }

// oneRequest is how long after a TERM another TERM is the same request. A program that stops a process and then its whole
// group, as timeout(1) does, sends two.
const oneRequest = time.Second

// signaled acts on a signal.
func (s *supervisor) signaled(sig os.Signal) {
	switch sig {
	case syscall.SIGTERM:
		switch now := time.Now(); {
		case s.phase == serving:
			s.terminate()
			s.termAt = now
		case !s.termAt.IsZero() && now.Sub(s.termAt) < oneRequest:
			s.log.Info("another TERM within a second is the same request")
		default:
			s.stopQuickly(sig)
		}
	case syscall.SIGINT, syscall.SIGQUIT:
		s.stopQuickly(sig)
	case syscall.SIGUSR1:
		// A worker that is not ready yet may have no handler, and it opens its files anew anyway.
		for _, p := range s.processes {
			if p.state != starting {
				p.signal(syscall.SIGUSR1)
			}
		}
	}
	if s.phase != serving {
		return
	}
	switch sig {
	case syscall.SIGHUP:
		s.log.Info("rolling restart asked for")
		s.reload = true
	case syscall.SIGUSR2:
		s.log.Info("upgrade asked for")
		s.upgrade = true
	case syscall.SIGTTIN:
		if s.target == maxWorkers {
			s.log.Warn("no more workers than this", "workers", s.target)
			return
		}
		s.target++
		s.log.Info("one worker more", "workers", s.target)
	case syscall.SIGTTOU:
		if s.target <= 1 {
			s.log.Warn("the last worker stays: to stop the service send TERM", "workers", s.target)
			return
		}
		s.target--
		s.log.Info("one worker less", "workers", s.target)
	}
}

// terminate begins a graceful stop.
func (s *supervisor) terminate() {
	s.log.Info("stopping", "workers", len(s.slots), "delay", s.cfg.ShutdownDelay,
		"graceful_timeout", s.cfg.GracefulTimeout)
	s.phase, s.delayed = delaying, time.Now().Add(s.cfg.ShutdownDelay)
	if s.op != nil {
		s.op.abort(s)
		s.op = nil
	}
	s.reload, s.upgrade = false, false
}

// quickTime is how long workers that were told to stop at once have for it.
const quickTime = 2 * time.Second

// stopQuickly ends the workers without a drain: by INT, and by KILL when that does not help.
func (s *supervisor) stopQuickly(sig os.Signal) {
	if s.phase == quick {
		return
	}
	if s.phase == serving {
		s.terminate()
	}
	s.log.Info("stopping at once", "signal", sig)
	s.phase, s.quickAt = quick, time.Now().Add(quickTime)
	for _, p := range s.processes {
		p.cause = "stop"
		p.state, p.stopAt = draining, time.Now()
		p.signal(syscall.SIGINT)
	}
}

// stopStep brings a stop forward; it is over when no worker is left.
func (s *supervisor) stopStep(now time.Time) (over bool, err error) {
	if s.phase == delaying && s.due(s.delayed, now) {
		s.phase = stopping
		for _, p := range s.processes {
			s.stop(p, "stop")
		}
	}
	if s.phase == quick && s.due(s.quickAt, now) {
		for _, p := range s.processes {
			s.kill(p, "stop")
		}
	}
	if !s.stopping() || len(s.processes) > 0 || s.remnantsLeft(now) {
		return false, nil
	}
	if s.ending == nil {
		s.publish(now)
		s.ending = s.halt()
	}
	if !s.ending.over && s.phase != quick {
		return false, nil
	}
	s.log.Info("stopped")
	return true, nil
}
