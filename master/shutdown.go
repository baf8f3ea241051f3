package master

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master/internal/endpoint"
	"github.com/onescrape/onescrape/worker/logqueue"
)

func notifyChildren(c chan<- os.Signal) { signal.Notify(c, syscall.SIGCHLD) }

// oneRequest is how long after a TERM another TERM belongs to the same request. timeout(1) and others send two: to the process,
// and to its whole group.
const oneRequest = time.Second

// signaled acts on a signal.
func (s *supervisor) signaled(sig os.Signal) {
	switch sig {
	case syscall.SIGTERM:
		switch now := s.loop.Now(); {
		case s.shutdown.phase == serving:
			s.terminate()
			s.shutdown.termAt = now
		case !s.shutdown.termAt.IsZero() && now.Sub(s.shutdown.termAt) < oneRequest:
			s.log.Info("another TERM within a second is the same request")
		default:
			s.stopQuickly(sig)
		}
	case syscall.SIGINT, syscall.SIGQUIT:
		s.stopQuickly(sig)
	case syscall.SIGUSR1:
		// A worker that is not ready yet may have no handler, and it is just opening its files.
		for _, p := range s.inOrder() {
			if p.State != starting {
				s.signal(p, syscall.SIGUSR1)
			}
		}
	}
	if s.shutdown.phase != serving {
		return
	}
	switch sig {
	case syscall.SIGHUP:
		s.log.Info("rolling restart asked for")
		s.requests.reload = true
	case syscall.SIGUSR2:
		s.log.Info("upgrade asked for")
		s.Upgrade = true
	case syscall.SIGTTIN:
		if s.Target == maxWorkers {
			s.log.Warn("no more workers than this", "workers", s.Target)
			return
		}
		s.Target++
		s.log.Info("one worker more", "workers", s.Target)
	case syscall.SIGTTOU:
		if s.Target <= 1 {
			s.log.Warn("the last worker stays: to stop the service send TERM", "workers", s.Target)
			return
		}
		s.Target--
		s.log.Info("one worker less", "workers", s.Target)
	}
}

// shutdown is how far the end of the master has come.
type shutdown struct {
	phase   phase
	termAt  time.Time // of the TERM that began it
	delayed time.Time // when the delay before the stop is over
	quickAt time.Time // when workers that were told to stop at once are killed
	ending  *halting  // when no worker is left
}

// phase is how far a stop has come.
type phase int

const (
	serving  phase = iota
	delaying       // TERM came; the shutdown delay runs
	stopping       // the workers drain
	quick          // the workers stop at once
)

// stopping reports whether no more processes are started.
func (s *supervisor) stopping() bool { return s.shutdown.phase >= stopping }

// terminate begins a graceful stop.
func (s *supervisor) terminate() {
	s.log.Info("stopping", "workers", len(s.slots), "delay", s.cfg.ShutdownDelay,
		"graceful_timeout", s.cfg.GracefulTimeout)
	s.shutdown.phase, s.shutdown.delayed = delaying, s.loop.Now().Add(s.cfg.ShutdownDelay)
	if s.requests.op != nil {
		s.requests.op.abort(s)
		s.requests.op = nil
	}
	s.requests.reload, s.Upgrade = false, false
}

// quickTime is how long workers have that were told to stop at once.
const quickTime = 2 * time.Second

// stopQuickly ends the workers without a drain: by INT, and by KILL when that does not help.
func (s *supervisor) stopQuickly(sig os.Signal) {
	if s.shutdown.phase == quick {
		return
	}
	if s.shutdown.phase == serving {
		s.terminate()
	}
	s.log.Info("stopping at once", "signal", sig)
	s.shutdown.phase, s.shutdown.quickAt = quick, s.loop.Now().Add(quickTime)
	for _, p := range s.inOrder() {
		p.Cause = "stop"
		p.State, p.StopAt = draining, s.loop.Now()
		s.signal(p, syscall.SIGINT)
	}
}

// stopStep does what is due for a stop. It is over when no worker is left.
func (s *supervisor) stopStep(now time.Time) (over bool, err error) {
	if s.shutdown.phase == delaying && s.loop.Due(s.shutdown.delayed, now) {
		s.shutdown.phase = stopping
		for _, p := range s.inOrder() {
			s.stop(p, "stop")
		}
	}
	if s.shutdown.phase == quick && s.loop.Due(s.shutdown.quickAt, now) {
		for _, p := range s.inOrder() {
			s.kill(p, "stop")
		}
	}
	if !s.stopping() || len(s.processes) > 0 || s.remnants.Left(now) {
		return false, nil
	}
	if s.shutdown.ending == nil {
		s.publish(now)
		s.shutdown.ending = s.halt()
	}
	if !s.shutdown.ending.over && s.shutdown.phase != quick {
		return false, nil
	}
	s.log.Info("stopped")
	return true, nil
}

// halting is the end of what the master does beside its control goroutine: the folding of the store, scrapes that are being
// answered, and the writing of the log. It must be over before an exec or the end of the process, and goes on in the
// background. The control goroutine owns the fields.
type halting struct {
	over   bool
	unread int // log lines that nobody has read
}

// haltTime is how long the folding and the scrapes are waited for. A fold may be cut off at any step, as by a crash.
const haltTime = endpoint.PauseTime

func (s *supervisor) halt() *halting {
	h := &halting{}
	scrapes, folds := s.endpoint.Pause(), s.store.StopFold()
	s.loop.Background(func() func() {
		ctx, cancel := context.WithTimeout(context.Background(), haltTime)
		defer cancel()
		for _, over := range []<-chan struct{}{scrapes, folds} {
			select {
			case <-over:
			case <-ctx.Done():
			}
		}
		unread := logqueue.Flush(logqueue.LastWords)
		return func() { h.over, h.unread = true, unread }
	})
	return h
}

// unwritten returns how many log lines are still not written. If the log was read a moment ago, it waits for lastMoment,
// because lines have come since.
func (h *halting) unwritten() int {
	if h.unread > 0 {
		return logqueue.Flush(0)
	}
	return logqueue.Flush(lastMoment)
}

// lastMoment is how long an exec waits for the last lines of the log, if somebody reads it.
const lastMoment = 50 * time.Millisecond

// resume undoes a halt, which may still be going on.
func (s *supervisor) resume() {
	s.store.StartFold()
	if err := s.endpoint.Start(); err != nil {
		s.log.Error("the metrics port is not served any more", "err", err)
	}
}
