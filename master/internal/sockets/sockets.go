// Package sockets has all listening sockets of a master: it opens the addresses, gives each slot its sockets, steers new
// connections, closes what nobody needs any more, and watches who else listens there.
package sockets

import (
	"log/slog"
	"slices"

	"github.com/onescrape/onescrape/master/internal/loop"
	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/master/internal/system"
)

// Sockets are the listening sockets of a master. The control goroutine owns them.
type Sockets struct {
	sys  system.System
	loop *loop.Loop
	log  *slog.Logger
	// targets reports, by slot, whether new connections should go there, at an address that workers have since that upgrade.
	targets func(since int) []bool

	groups    []*reuseport.Group
	removed   []*reuseport.Group // addresses that the configuration no longer has
	closing   []*closingSlot     // slots that were given up and whose sockets could not be closed yet
	looking   bool               // who holds the sockets that are closed later is being looked up
	strangers strangers
	steering  steering
}

// New returns Sockets without any address. targets reports, by slot, whether new connections should go there, at
// an address that workers have since that upgrade.
func New(sys system.System, l *loop.Loop, log *slog.Logger, targets func(since int) []bool) *Sockets {
	return &Sockets{sys: sys, loop: l, log: log, targets: targets, strangers: strangers{named: make(map[uint64]Stranger)}}
}

// Addresses returns where the workers listen, in the order of the configuration, with the port that the system chose for port 0.
func (s *Sockets) Addresses() (out []string) {
	for _, g := range s.groups {
		out = append(out, g.Where())
	}
	return out
}

// Take makes the groups the addresses of the master.
func (s *Sockets) Take(groups []*reuseport.Group) { s.groups = groups }

// OfSlot returns the descriptors of a slot's sockets, and their names, in the order of the addresses. It replaces sockets that a
// worker has shut down: they can never accept again.
func (s *Sockets) OfSlot(slot int) (fds []uintptr, names []string) {
	s.reopen(slot)
	for _, g := range s.groups {
		fds = append(fds, uintptr(g.FD(slot)))
		names = append(names, g.FDName())
	}
	return fds, names
}

func (s *Sockets) reopen(slot int) {
	for _, g := range s.groups {
		if g.Intact(slot) {
			continue // else Compare may have dropped it already
		}
		s.log.Warn("worker has shut its socket down, which every process that shares it feels: it is replaced; a "+
			"worker must only close it", "slot", slot, "address", g.Where())
		g.Remove(slot)
		if err := g.Add(slot); err != nil {
			s.log.Error("socket not replaced", "err", err)
		}
		s.SteerAnew()
	}
}

// AddSlot opens the sockets of a slot, or takes those that are open under its number.
func (s *Sockets) AddSlot(slot int) error {
	var added []*reuseport.Group // but not those where the socket of the slot is open
	for _, g := range s.groups {
		if g.Has(slot) {
			continue
		}
		if err := g.Add(slot); err != nil {
			for _, g := range added {
				g.RemoveSteered(slot, among(s.targets(g.Since)))
			}
			return err
		}
		added = append(added, g)
	}
	s.keep(slot)
	s.SteerAnew()
	return nil
}

// Queued reports whether connections wait in one of the slot's sockets.
func (s *Sockets) Queued(slot int) bool {
	return slices.ContainsFunc(s.groups, func(g *reuseport.Group) bool { return g.Queued(slot) })
}

// handshakes returns the handshakes that are under way at the addresses, except at shared sockets.
func (s *Sockets) handshakes() (out []reuseport.Handshake) {
	for _, g := range s.groups {
		out = append(out, g.Handshakes()...)
	}
	return out
}

// Inodes returns all sockets that workers have or had.
func (s *Sockets) Inodes() proc.Inodes {
	out := make(proc.Inodes)
	for _, g := range slices.Concat(s.groups, s.removed) {
		for _, inode := range g.Inodes() {
			out[inode] = true
		}
	}
	return out
}

// OwnInodes returns the sockets that this master opened: all except those from systemd.
func (s *Sockets) OwnInodes() []uint64 {
	out := []uint64{}
	for _, g := range slices.Concat(s.groups, s.removed) {
		if !g.IsInherited() {
			out = append(out, g.Inodes()...)
		}
	}
	return out
}

// Removed reports whether there are addresses that the configuration no longer has.
func (s *Sockets) Removed() bool { return len(s.removed) > 0 }

// CloseRemoved closes the addresses that the configuration no longer has.
func (s *Sockets) CloseRemoved() {
	for _, g := range s.removed {
		s.log.Info("address closed", "address", g.Where())
		g.Close()
	}
	s.removed = nil
}

// Close closes all sockets.
func (s *Sockets) Close() {
	for _, g := range slices.Concat(s.groups, s.removed) {
		g.Close()
	}
}

// among makes a list by slot a function.
func among(list []bool) func(slot int) bool {
	return func(slot int) bool { return slot >= 0 && slot < len(list) && list[slot] }
}
