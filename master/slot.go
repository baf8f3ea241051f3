package master

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
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
	retryAt  time.Time // of the next start, when there is no process
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

// accepts tells whether somebody accepts connections on the slot's sockets.
func (sl *slot) accepts() bool {
	return sl.cur != nil && sl.cur.state == ready && !sl.cur.stops && !sl.retiring
}

// empty tells that no process is left.
func (sl *slot) empty() bool { return sl.cur == nil && sl.next == nil && len(sl.old) == 0 }

func (sl *slot) status() Slot {
	out := Slot{Slot: sl.number, State: sl.state(), Started: sl.started, Restarts: sl.restarts, LastExit: sl.lastExit}
	p := sl.cur
	if p == nil && len(sl.old) > 0 {
		p = sl.old[len(sl.old)-1]
	}
	if p != nil {
		out.PID, out.Started, out.Text = p.pid, p.started, p.text
	}
	return out
}

// start gives the slot a process.
func (s *supervisor) start(sl *slot) {
	p, err := s.launch(sl.number)
	if err != nil {
		s.refused = err
		sl.lastExit = err.Error()
		wait := s.failed(sl)
		if s.served { // else what Run returns says it
			s.log.Error("worker not started", "slot", sl.number, "err", err, "failures", sl.failures, "next", wait)
		}
		return
	}
	sl.cur, sl.started = p, p.started
}

// failed notes one more failure of a slot that has no process now, and returns when it is tried again.
func (s *supervisor) failed(sl *slot) time.Duration {
	sl.failures++
	wait := backoff(sl.failures)
	sl.retryAt = time.Now().Add(wait)
	s.wake(sl.retryAt)
	return wait.Round(time.Millisecond)
}

// succeed has a slot whose process went start another, and returns when: at once if that one had worked, later if not.
func (s *supervisor) succeed(sl *slot, p *process) time.Duration {
	if !p.readyAt.IsZero() && time.Since(p.readyAt) >= settled {
		sl.failures = 0
		sl.retryAt = time.Now()
		s.wake(sl.retryAt)
		return 0
	}
	return s.failed(sl)
}

// maxText is how much of a worker's STATUS= is kept.
const maxText = 200

// heard acts on what a worker said.
func (s *supervisor) heard(n notice) {
	p := n.from
	sl := s.slotOf(p)
	if n.over {
		p.heard = true
		s.exited(sl, p)
		return
	}
	if n.fields["X_ONESCRAPE_EXEC"] != "" {
		if errno := number(n.fields["ERRNO"]); errno > 0 {
			p.execErr = s.cfg.notExecutable(n.fields["X_ONESCRAPE_EXEC"], syscall.Errno(errno))
		}
	}
	if n.sender != 0 && n.sender != p.pid {
		if n.fields["READY"] == "1" && !p.stranger {
			p.stranger = true
			s.log.Warn("READY=1 comes from another process than the one that was started, and does not count: a command that "+
				"forks before it listens cannot take its sockets (LISTEN_PID); in a shell script start the server with exec",
				p.id(), "sender", n.sender)
		}
		return
	}
	now := time.Now()
	if text, ok := n.fields["STATUS"]; ok {
		p.text = strings.ToValidUTF8(text[:min(len(text), maxText)], "")
	}
	if n.fields["WATCHDOG"] == "1" {
		p.beat = now
	}
	if n.fields["X_ONESCRAPE_RECYCLE"] == "1" {
		p.renew = true
	}
	if series, ok := n.fields["X_ONESCRAPE_STORELESS"]; ok {
		p.storeless = true
		s.log.Warn("worker has no space in the store: its metrics die with it", p.id(), "series", series)
	}
	if n.fields["READY"] == "1" {
		s.speaks = true
		s.markReady(p)
	}
	if n.fields["STOPPING"] == "1" {
		s.stopsItself(sl, p)
	}
}

// markReady takes the process as ready.
func (s *supervisor) markReady(p *process) {
	if p.state != starting {
		return
	}
	now := time.Now()
	p.state, p.readyAt, p.beat = ready, now, now
	s.complaint = ""
	s.log.Info("worker ready", p.id(), "after", now.Sub(p.started).Round(time.Millisecond))
}

// stopsItself is what happens when a worker drains that nobody asked to, by a TERM from outside for instance: its
// successor starts at once.
func (s *supervisor) stopsItself(sl *slot, p *process) {
	p.stops = true
	if p.state == draining {
		return
	}
	s.log.Info("worker stops by itself", p.id())
	p.state, p.stopAt = draining, time.Now()
	if sl == nil || sl.cur != p || sl.retiring || s.stopping() {
		return
	}
	sl.cur = nil
	sl.old = append(sl.old, p)
	sl.restarts++
	s.counters.restart(p.reason())
	if sl.next != nil {
		sl.cur, sl.next = sl.next, nil
		return
	}
	s.succeed(sl, p)
}

// exited acts on a process that has gone, once that is so and everything that it said was heard.
func (s *supervisor) exited(sl *slot, p *process) {
	if !p.reaped || !p.heard {
		return
	}
	p.gone = true
	p.notify.close()
	delete(s.processes, p.pid)
	attrs := []any{p.id(), "how", p.exit(), "lived", p.ended.Sub(p.started).Round(time.Millisecond)}
	if sl == nil || sl.cur != p || s.stopping() {
		s.sayStopped(p, attrs)
	}
	if sl == nil {
		return
	}
	sl.lastExit = p.exit()
	sl.old = slices.DeleteFunc(sl.old, func(o *process) bool { return o == p })
	switch p {
	case sl.next:
		sl.next = nil
	case sl.cur:
		sl.cur = nil
		s.checkSockets(sl)
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
	if p.execErr != nil {
		s.refused = p.execErr
	}
	attrs = append(attrs, "next", s.succeed(sl, p), "failures", sl.failures)
	switch {
	case !p.readyAt.IsZero():
		s.log.Warn("worker exited", attrs...)
	case p.execErr == nil || s.served: // else what Run returns says it
		// One line for one trouble: the same end of the next try, or in another slot, is not news.
		level := slog.LevelError
		if s.complaint == p.exit() {
			level = slog.LevelDebug
		}
		s.complaint = p.exit()
		s.log.Log(context.Background(), level, "worker exited before it was ready; it is tried again, more and more slowly",
			append(attrs, "help", "its own output says why; it must take its sockets from LISTEN_FDS and go on running")...)
	}
}

// checkSockets replaces sockets that the worker has shut down: they can never accept again.
func (s *supervisor) checkSockets(sl *slot) {
	for _, g := range s.groups {
		if fd := g.fd(sl.number); g.shared || fd < 0 || stillListens(fd) {
			continue
		}
		s.log.Warn("worker has shut its socket down, which every process that shares it feels: it is replaced; a worker must "+
			"only close it", "slot", sl.number, "address", g.text)
		g.remove(sl.number)
		if err := g.add(sl.number); err != nil {
			s.log.Error("socket not replaced", "err", err)
		}
		s.steered = nil
	}
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
	if !p.stops { // else it knows, and many programs take a second signal for impatience
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

// watch kills what is too slow and notes who is too old.
func (s *supervisor) watch(p *process, now time.Time) {
	if p.reaped || p.killed {
		return
	}
	switch p.state {
	case starting:
		s.lookAtFork(p, now)
		if !s.due(p.started.Add(s.cfg.ReadyTimeout), now) {
			return
		}
		if len(s.cfg.Command) > 0 && !s.speaks {
			s.log.Warn("worker has not said READY=1 but runs: it is taken as ready; a server that speaks sd_notify is better",
				p.id(), "after", s.cfg.ReadyTimeout)
			s.markReady(p)
			return
		}
		s.log.Error("worker is not ready in time and is killed", p.id(), "after", s.cfg.ReadyTimeout,
			"help", "it must say READY=1 on NOTIFY_SOCKET; if it needs longer, raise the ready timeout")
		s.kill(p, "not_ready")
	case ready:
		if s.cfg.Watchdog > 0 && s.speaks && s.due(p.beat.Add(s.cfg.Watchdog), now) {
			s.log.Error("worker gave no sign of life and is killed", p.id(), "since", now.Sub(p.beat).Round(time.Millisecond))
			s.kill(p, "watchdog")
		}
		if !p.renewAt.IsZero() && !p.renew && s.due(p.renewAt, now) {
			p.renew = true
		}
	case draining:
		if s.due(p.stopAt.Add(s.cfg.GracefulTimeout), now) {
			s.log.Warn("worker did not stop in time and is killed", p.id(), "after", s.cfg.GracefulTimeout)
			s.kill(p, p.cause)
		}
	}
}

// forkLook is when a worker that is not ready is looked at for a fork.
const forkLook = 2 * time.Second

// lookAtFork says so when a command has started another process before it was ready: if that is the server, it cannot
// take its sockets.
func (s *supervisor) lookAtFork(p *process, now time.Time) {
	if p.looked || s.speaks || len(s.cfg.Command) == 0 || !s.due(p.started.Add(min(forkLook, s.cfg.ReadyTimeout)), now) {
		return
	}
	p.looked = true
	if kids := children(p.pid); len(kids) > 0 {
		s.log.Warn("the command has started other processes and is not ready: if one of them is the server, it cannot take its "+
			"sockets, which are for the process that was started (LISTEN_PID); in a shell script start the server with exec",
			p.id(), slog.Any("children", kids))
	}
}

// errStopped is the end of a start that was interrupted.
var errStopped = errors.New("master: stopped")
