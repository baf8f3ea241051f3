package master

import (
	"maps"
	"slices"
	"time"

	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/reuseport"
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
	inodes := make(proc.Inodes)
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
			if inode, ok := g.Inode(p.slot); ok {
				inodes[inode] = true
			}
		}
	}
	if len(looked) == 0 {
		return
	}
	s.unparking = true
	s.background(func() func() {
		held := proc.HoldersBySocket(inodes)
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
	return slices.ContainsFunc(s.groups, func(g *reuseport.Group) bool { return g.Queued(slot) })
}

// closeParked closes the sockets of a parked slot that nobody else was seen to hold.
func (s *supervisor) closeParked(p *parkedSlot, held map[uint64][]proc.Holder) {
	if !slices.Contains(s.closingSockets, p) || s.queued(p.slot) {
		return // it is in service again, or somebody waits
	}
	open := false
	for _, g := range s.groups {
		inode, ok := g.Inode(p.slot)
		switch {
		case !ok:
		case len(held[inode]) > 0:
			open = true
		default:
			g.RemoveSteered(p.slot, among(s.targets(time.Now())))
		}
	}
	if !open {
		s.unparked(p.slot)
		return
	}
	if p.lookAt.IsZero() {
		s.log.Warn("sockets of a slot that is no more stay open, because another process holds them", "slot", p.slot,
			"holders", proc.Text(slices.Concat(slices.Collect(maps.Values(held))...)))
	}
	p.lookAt, p.wait = time.Now().Add(p.wait), min(2*p.wait, unparkMost)
}
