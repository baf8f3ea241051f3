package master

import (
	"strings"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/worker/sdnotify"
)

// maxText is how much of a worker's STATUS= is kept.
const maxText = 200

// message is what the socket of a worker has received.
type message struct {
	from *process
	sdnotify.Message
}

// handle acts on a message of a worker.
func (s *supervisor) handle(n message) {
	p := n.from
	sl := s.slotOf(p)
	if n.Over {
		p.end.handled = true
		s.exited(sl, p)
		return
	}
	if n.Answered != 0 {
		p.look.answered = n.Answered
		return
	}
	if n.ForeignReady != 0 {
		s.log.Warn("READY=1 comes from another process than the one that was started, and does not count: a command that "+
			"forks before it listens cannot take its sockets (LISTEN_PID); in a shell script start the server with exec",
			p.id(), "sender", n.ForeignReady)
		return
	}
	if n.Fields["X_ONESCRAPE_EXEC"] != "" {
		if errno := number(n.Fields["ERRNO"]); errno > 0 {
			p.end.execErr = s.cfg.notExecutable(n.Fields["X_ONESCRAPE_EXEC"], syscall.Errno(errno))
		}
	}
	now := s.loop.Now()
	if text, ok := n.Fields["STATUS"]; ok {
		p.Text = strings.ToValidUTF8(text[:min(len(text), maxText)], "")
	}
	if n.Fields["WATCHDOG"] == "1" {
		p.Beat = now
	}
	if n.Fields["X_ONESCRAPE_RECYCLE"] == "1" {
		p.recycleRequested = true
	}
	if series, ok := n.Fields["X_ONESCRAPE_STORELESS"]; ok {
		p.Storeless = true
		s.log.Warn("worker has no space in the store: its metrics die with it", p.id(), "series", series)
	}
	if n.Fields["READY"] == "1" {
		s.startup.protocol = saysWhenReady
		s.markReady(p)
	}
	if n.Fields["STOPPING"] == "1" {
		s.stopsItself(sl, p)
	}
}

// markReady takes the process as ready.
func (s *supervisor) markReady(p *process) {
	if p.State != starting {
		return
	}
	now := s.loop.Now()
	p.State, p.ReadyAt, p.Beat = ready, now, now
	s.startup.complaint = ""
	s.log.Info("worker ready", p.id(), "after", now.Sub(p.readyFrom).Round(time.Millisecond))
}

// stopsItself is what happens when a worker drains that nobody asked to, by a TERM from outside for instance: its
// successor starts at once.
func (s *supervisor) stopsItself(sl *slot, p *process) {
	p.StoppingItself = true
	if p.State == draining {
		return
	}
	s.log.Info("worker stops by itself", p.id())
	p.State, p.StopAt = draining, s.loop.Now()
	if sl == nil || sl.cur != p || sl.retiring || s.stopping() {
		return
	}
	sl.cur = nil
	sl.old = append(sl.old, p)
	sl.Restarts++
	s.metrics.Restart(p.reason())
	if sl.next != nil {
		sl.cur, sl.next = sl.next, nil
		return
	}
	s.succeed(sl, p)
}
