package master

import (
	"maps"
	"slices"
	"time"
)

// parkedSlot is a slot that is no more and whose sockets are still open. They stay in the tables, excluded, while
// somebody waits in one of them or another process holds one: its place in the kernel's group would stay taken, and all
// indexes behind it would be wrong. They serve the next slot of that number.
type parkedSlot struct {
	slot   int
	lookAt time.Time     // when it is looked at again who holds the sockets
	wait   time.Duration // between two looks; it grows, because a look at all processes costs
}

// How often sockets that could not be closed are looked at again, and how often at least.
const (
	unparkPoll = time.Second
	unparkMost = time.Minute
)

func (s *supervisor) park(slot int) {
	s.closingSockets = append(s.closingSockets, &parkedSlot{slot: slot, wait: unparkPoll})
}

func (s *supervisor) parkedSlots() (out []int) {
	for _, p := range s.closingSockets {
		out = append(out, p.slot)
	}
	return out
}

// unparked takes a slot's sockets back into service.
func (s *supervisor) unparked(n int) {
	s.closingSockets = slices.DeleteFunc(s.closingSockets, func(p *parkedSlot) bool { return p.slot == n })
}

// unpark closes the sockets of slots that are no more, where nothing waits in them and nobody else holds them. Who does
// is looked up in the background.
func (s *supervisor) unpark(now time.Time) {
	if s.unparking {
		return
	}
	inodes := make(map[uint64]bool)
	var looked []*parkedSlot
	for _, p := range s.closingSockets {
		if s.queued(p.slot) {
			s.wake(now.Add(unparkPoll))
			continue
		}
		if !s.due(p.lookAt, now) {
			continue
		}
		looked = append(looked, p)
		for _, g := range s.groups {
			if i := g.index(p.slot); i >= 0 && !g.shared {
				inodes[g.sockets[i].inode] = true
			}
		}
	}
	if len(looked) == 0 {
		return
	}
	s.unparking = true
	s.background(func() func() {
		held := socketHolders(inodes)
		return func() {
			s.unparking = false
			for _, p := range looked {
				s.closeParked(p, held)
			}
		}
	})
}

// queued reports whether connections wait in one of the slot's sockets.
func (s *supervisor) queued(slot int) bool {
	return slices.ContainsFunc(s.groups, func(g *group) bool { return g.queued(slot) })
}

// closeParked closes the sockets of a parked slot that nobody else was seen to hold.
func (s *supervisor) closeParked(p *parkedSlot, held map[uint64][]holder) {
	if !slices.Contains(s.closingSockets, p) || s.queued(p.slot) {
		return // it is in service again, or somebody waits
	}
	open := false
	for _, g := range s.groups {
		i := g.index(p.slot)
		switch {
		case i < 0 || g.shared:
		case len(held[g.sockets[i].inode]) > 0:
			open = true
		default:
			s.closeSocket(g, p.slot)
		}
	}
	if !open {
		s.unparked(p.slot)
		return
	}
	if p.lookAt.IsZero() {
		s.log.Warn("sockets of a slot that is no more stay open, because another process holds them", "slot", p.slot,
			"holders", holderText(slices.Concat(slices.Collect(maps.Values(held))...)))
	}
	p.lookAt, p.wait = time.Now().Add(p.wait), min(2*p.wait, unparkMost)
}

// closeSocket closes one socket of a group by the kernel's rule that the last one takes its index: the program that is
// attached meanwhile names neither, and then the last one at its new place.
func (s *supervisor) closeSocket(g *group, n int) {
	i := g.index(n)
	if i < 0 || g.shared {
		return
	}
	last := g.sockets[len(g.sockets)-1].slot
	accepts := among(s.targets(time.Now()))
	if last != n {
		g.steer(func(slot int) bool { return slot != last && slot != n && accepts(slot) })
	}
	g.remove(n)
	if last != n {
		g.steer(accepts)
	}
}
