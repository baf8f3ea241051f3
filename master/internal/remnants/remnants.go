// Package remnants looks after processes for which nothing else cares: what is left of a worker's process group when the worker
// has ended, and, in a container where the master is process 1, the orphans of all others.
package remnants

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master/internal/loop"
	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/system"
)

// Remnants has what is left of the process groups of commands whose leaders have ended. Processes of such a group that still hold
// one of our sockets would answer connections, or leave them unanswered, beside the slot's next worker: they are told to stop,
// and killed after a deadline. Others are left alone. Until then the leader is not reaped, so that the group's number cannot
// become another group's. The control goroutine owns it.
type Remnants struct {
	sys      system.System
	loop     *loop.Loop
	log      *slog.Logger
	sockets  func() proc.Inodes               // those that workers have or had
	deadline func(stopAt time.Time) time.Time // when a group that was told to stop at stopAt is killed
	orphans  *orphans                         // nil unless this process is process 1
	groups   map[int]*group                   // by the pid of the leader
}

// New returns Remnants without any group.
func New(sys system.System, l *loop.Loop, log *slog.Logger, sockets func() proc.Inodes, deadline func(stopAt time.Time) time.Time) *Remnants {
	return &Remnants{sys: sys, orphans: newOrphans(sys.PID()), loop: l, log: log, sockets: sockets, deadline: deadline, groups: make(map[int]*group)}
}

// group is one process group without its leader.
type group struct {
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
	poll      = 50 * time.Millisecond
	pollMost  = time.Second
	killGrace = 5 * time.Second
)

// Add starts to look after the rest of a process group. Its leader was a worker of the slot.
func (r *Remnants) Add(slot, pgid int) { r.groups[pgid] = &group{slot: slot, pgid: pgid, wait: poll} }

// Has reports whether the pid is that of a leader, which must not be reaped.
func (r *Remnants) Has(pid int) bool { return r.groups[pid] != nil }

// inOrder returns the groups in the order of their numbers, so that a run can be replayed.
func (r *Remnants) inOrder() []*group {
	return slices.SortedFunc(maps.Values(r.groups), func(a, b *group) int { return cmp.Compare(a.pgid, b.pgid) })
}

// Tend looks after what is left of the groups.
func (r *Remnants) Tend(now time.Time) {
	for _, g := range r.inOrder() {
		if g.looking || !r.loop.Due(g.lookAt, now) {
			continue
		}
		g.looking = true
		sockets := r.sockets()
		r.loop.Background(func() func() {
			left := r.sys.GroupHolders(g.pgid, sockets)
			return func() { r.judge(g, left) }
		})
	}
}

// judge does what is due for a group. holders are its processes that hold sockets.
func (r *Remnants) judge(g *group, holders []int) {
	now := r.loop.Now()
	g.looking, g.lookAt, g.wait = false, now.Add(g.wait), min(2*g.wait, pollMost)
	attrs := []any{slog.Group("", "slot", g.slot, "group", g.pgid), "pids", holders}
	switch {
	case len(holders) == 0:
		r.sys.Reap(g.pgid)
		delete(r.groups, g.pgid)
	case g.stopAt.IsZero():
		r.log.Warn("worker has ended, but processes that it started hold its sockets: they are told to stop", attrs...)
		g.stopAt = now
		r.sys.SignalGroup(g.pgid, syscall.SIGTERM)
	case g.killed.IsZero() && !now.Before(r.deadline(g.stopAt)):
		r.log.Warn("processes that a worker has left behind did not stop in time and are killed", attrs...)
		g.killed = now
		r.sys.SignalGroup(g.pgid, syscall.SIGKILL)
	}
}

// Left reports whether the master's end must wait for what is left of the groups.
func (r *Remnants) Left(now time.Time) bool {
	for _, g := range r.inOrder() {
		if g.killed.IsZero() || !r.loop.Due(g.killed.Add(killGrace), now) {
			return true
		}
	}
	return false
}

// Kill ends everything that the master would leave behind. It looks at all processes.
func (r *Remnants) Kill() {
	for _, g := range r.inOrder() {
		if len(r.sys.GroupHolders(g.pgid, r.sockets())) > 0 {
			r.sys.SignalGroup(g.pgid, syscall.SIGKILL)
		}
	}
}

// Shift puts all deadlines off.
func (r *Remnants) Shift(d time.Duration) {
	for _, g := range r.inOrder() {
		for _, t := range []*time.Time{&g.stopAt, &g.killed} {
			if !t.IsZero() {
				*t = t.Add(d)
			}
		}
	}
	r.orphans.shift(d)
}

// State is a group in a handover.
type State struct {
	Slot int `json:"slot"`
	PGID int `json:"pgid"`
	// Stopping is how long ago it was told to stop. 0: it was not.
	Stopping time.Duration `json:"stopping"`
}

// States describes the groups for a handover.
func (r *Remnants) States() (out []State) {
	for _, g := range r.inOrder() {
		state := State{Slot: g.slot, PGID: g.pgid}
		if !g.stopAt.IsZero() {
			state.Stopping = max(1, r.loop.Now().Sub(g.stopAt))
		}
		out = append(out, state)
	}
	return out
}

// Adopt goes on with the groups of the master before.
func (r *Remnants) Adopt(states []State) {
	for _, state := range states {
		r.Add(state.Slot, state.PGID)
		if state.Stopping > 0 {
			r.groups[state.PGID].stopAt = r.loop.Now().Add(-state.Stopping)
		}
	}
}
