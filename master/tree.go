package master

import (
	"errors"
	"log/slog"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/worker/sdnotify"
)

// remnant is what is left of the process group of a command whose leader has ended. Processes of the group that still
// hold one of our sockets would answer connections, or leave them unanswered, beside the slot's next worker: they are told
// to stop, and killed after the graceful timeout. Others are left alone. Until then the leader is not reaped, so that the
// group's number cannot become another group's.
type remnant struct {
	slot    int
	pgid    int
	stopAt  time.Time // when it was told to stop; zero: not yet
	killed  time.Time // when KILL was sent; zero: not yet
	looking bool      // who is left is being looked up
	lookAt  time.Time // of the next look
	wait    time.Duration
}

// How often a group is looked at, and how long one that does not end by KILL can hold up the master's own end.
const (
	remnantPoll  = 50 * time.Millisecond
	remnantMost  = time.Second
	remnantGrace = 5 * time.Second
)

// leaveRemnant has the rest of a command's process group looked after.
func (s *supervisor) leaveRemnant(p *process) {
	s.remnants[p.pid] = &remnant{slot: p.slot, pgid: p.pid, wait: remnantPoll}
}

// tendRemnants looks after what is left of the groups.
func (s *supervisor) tendRemnants(now time.Time) {
	for _, r := range s.remnants {
		if r.looking || !s.due(r.lookAt, now) {
			continue
		}
		r.looking = true
		inodes := s.ownInodes()
		s.background(func() func() {
			left := proc.GroupHolders(r.pgid, inodes)
			return func() { s.judge(r, left) }
		})
	}
}

// judge does what is due for a group of which these processes hold sockets.
func (s *supervisor) judge(r *remnant, holders []int) {
	now := time.Now()
	r.looking, r.lookAt, r.wait = false, now.Add(r.wait), min(2*r.wait, remnantMost)
	attrs := []any{slog.Group("", "slot", r.slot, "group", r.pgid), "pids", holders}
	switch {
	case len(holders) == 0:
		syscall.Wait4(r.pgid, nil, syscall.WNOHANG, nil)
		delete(s.remnants, r.pgid)
	case r.stopAt.IsZero():
		s.log.Warn("worker has ended, but processes that it started hold its sockets: they are told to stop", attrs...)
		r.stopAt = now
		syscall.Kill(-r.pgid, syscall.SIGTERM)
	case r.killed.IsZero() && !now.Before(s.remnantDeadline(r)):
		s.log.Warn("processes that a worker has left behind did not stop in time and are killed", attrs...)
		r.killed = now
		syscall.Kill(-r.pgid, syscall.SIGKILL)
	}
}

func (s *supervisor) remnantDeadline(r *remnant) time.Time {
	if s.phase == quick {
		return s.quickAt
	}
	return r.stopAt.Add(s.cfg.GracefulTimeout)
}

// remnantsLeft reports whether the master's end is to wait for what is left of the groups.
func (s *supervisor) remnantsLeft(now time.Time) bool {
	for _, r := range s.remnants {
		if r.killed.IsZero() || !s.due(r.killed.Add(remnantGrace), now) {
			return true
		}
	}
	return false
}

// killRest ends everything that the master would leave behind.
func (s *supervisor) killRest() {
	for _, p := range s.processes {
		p.signal(syscall.SIGKILL)
	}
	for _, r := range s.remnants {
		if len(proc.GroupHolders(r.pgid, s.ownInodes())) > 0 {
			syscall.Kill(-r.pgid, syscall.SIGKILL)
		}
	}
}

// ownInodes returns the inodes of all sockets that workers have or had.
func (s *supervisor) ownInodes() proc.Inodes {
	inodes := make(proc.Inodes)
	for _, groups := range [...][]*reuseport.Group{s.groups, s.removedAddresses} {
		for _, g := range groups {
			for _, inode := range g.Inodes() {
				inodes[inode] = true
			}
		}
	}
	return inodes
}

// remnantState is a remnant in a handover.
type remnantState struct {
	Slot int `json:"slot"`
	PGID int `json:"pgid"`
	// Stopping is how long ago it was told to stop. 0: it was not.
	Stopping time.Duration `json:"stopping"`
}

func (s *supervisor) describeRemnants() (out []remnantState) {
	for _, r := range s.remnants {
		rs := remnantState{Slot: r.slot, PGID: r.pgid}
		if !r.stopAt.IsZero() {
			rs.Stopping = max(1, time.Since(r.stopAt))
		}
		out = append(out, rs)
	}
	return out
}

// goneRemnants describes the leaders of the groups as processes of slots that are no more. That is what a master knows that looks
// after no groups, so that it reaps them; another one passes them over.
func (s *supervisor) goneRemnants(h *handedOver, now time.Time) (out []processState) {
	for _, r := range s.remnants {
		n, err := sdnotify.NewReceiver()
		if err != nil {
			h.err = errors.Join(h.err, err)
			continue
		}
		ps := processState{Slot: r.slot, PID: r.pgid, State: draining, Started: now, ReadyAt: now, StopAt: now, Beat: now,
			Name: n.Name(), Cause: "stop", Notify: -1, Remnant: true}
		h.err = errors.Join(h.err, n.Control(func(fd int) error {
			ps.Notify = h.copy(fd)
			return nil
		}))
		n.Close()
		out = append(out, ps)
	}
	return out
}

func (s *supervisor) adoptRemnants(states []remnantState) {
	for _, rs := range states {
		r := &remnant{slot: rs.Slot, pgid: rs.PGID, wait: remnantPoll}
		if rs.Stopping > 0 {
			r.stopAt = time.Now().Add(-rs.Stopping)
		}
		s.remnants[r.pgid] = r
	}
}
