package sockets

import (
	"maps"
	"slices"
	"time"

	"github.com/onescrape/onescrape/master/internal/proc"
)

// closingSlot is a slot that was given up and whose sockets are still open. They stay in the tables, excluded, while somebody
// waits in one of them or may still come, and while another process holds one: its place in the kernel's group would stay taken,
// and all indexes behind it would be wrong. They serve the next slot of that number.
type closingSlot struct {
	slot   int
	last   *Exclusion    // since connections were last steered anew
	pollAt time.Time     // of the next look at what may still come
	lookAt time.Time     // of the next look at who holds the sockets
	wait   time.Duration // between two looks; it grows, because a look at all processes costs
}

// How often sockets that could not be closed are looked at again, and how often at least.
const (
	closePoll = time.Second
	closeMost = time.Minute
)

// CloseLater closes the sockets of a slot as soon as nothing waits in them and nobody else holds them. The slot must not be a
// target any more.
func (s *Sockets) CloseLater(slot int) {
	s.closing = append(s.closing, &closingSlot{slot: slot, wait: closePoll})
	s.SteerAnew()
}

// Closing returns the slots whose sockets are closed later.
func (s *Sockets) Closing() (out []int) {
	for _, p := range s.closing {
		out = append(out, p.slot)
	}
	return out
}

// keep takes a slot's sockets back into service.
func (s *Sockets) keep(slot int) {
	s.closing = slices.DeleteFunc(s.closing, func(p *closingSlot) bool { return p.slot == slot })
}

// CloseDue closes the sockets that are closed later, where nothing waits in them and nobody else holds them. It looks in the background
// who holds them.
func (s *Sockets) CloseDue(now time.Time) {
	if s.looking {
		return
	}
	inodes := make(proc.Inodes)
	var looked []*closingSlot
	for _, p := range s.closing {
		if !s.steering.known {
			continue // connections may be steered there still; Steer wakes the loop
		}
		if p.last == nil {
			p.last = s.Exclude(p.slot, now)
			p.pollAt = now.Add(ExclusionPoll)
		}
		// In this order: a look at the queues and handshakes is cheap, but not for every step of a loop that goes on for hours.
		if !s.loop.Due(p.lookAt, now) || !s.loop.Due(p.pollAt, now) {
			continue
		}
		if p.last.Pending(now) {
			p.pollAt = now.Add(closePoll)
			s.loop.Wake(p.pollAt)
			continue
		}
		looked = append(looked, p)
		for _, g := range s.groups {
			if inode, ok := g.Inode(p.slot); ok {
				inodes[inode] = true
			}
		}
	}
	if len(looked) == 0 {
		return
	}
	s.looking = true
	s.loop.Background(func() func() {
		held := s.sys.SocketHolders(inodes)
		return func() {
			s.looking = false
			for _, p := range looked {
				s.closeUnheld(p, held)
			}
		}
	})
}

// closeUnheld closes the sockets of a slot that nobody else was seen to hold.
func (s *Sockets) closeUnheld(p *closingSlot, held map[uint64][]proc.Holder) {
	if !slices.Contains(s.closing, p) || p.last == nil || p.last.Pending(s.loop.Now()) {
		return // it is in service again, or somebody may come
	}
	open := false
	for _, g := range s.groups {
		inode, ok := g.Inode(p.slot)
		switch {
		case !ok:
		case len(held[inode]) > 0:
			open = true
		default:
			g.RemoveSteered(p.slot, among(s.targets(g.Since)))
		}
	}
	if !open {
		s.keep(p.slot)
		return
	}
	if p.lookAt.IsZero() {
		s.log.Warn("sockets of a slot that is no more stay open, because another process holds them", "slot", p.slot,
			"holders", proc.Text(slices.Concat(slices.Collect(maps.Values(held))...)))
	}
	p.lookAt, p.wait = s.loop.Now().Add(p.wait), min(2*p.wait, closeMost)
}
