package sockets

import (
	"maps"
	"slices"
	"time"

	"github.com/onescrape/onescrape/master/internal/proc"
)

// parkedSlot is a slot that was given up and whose sockets are still open. They stay in the tables, excluded, while somebody
// waits in one of them or another process holds one: its place in the kernel's group would stay taken, and all indexes behind it
// would be wrong. They serve the next slot of that number.
type parkedSlot struct {
	slot   int
	lookAt time.Time     // of the next look at who holds the sockets
	wait   time.Duration // between two looks; it grows, because a look at all processes costs
}

// How often sockets that could not be closed are looked at again, and how often at least.
const (
	unparkPoll = time.Second
	unparkMost = time.Minute
)

// Park has the sockets of a slot closed as soon as nothing waits in them and nobody else holds them. The slot is no target any
// more.
func (s *Sockets) Park(slot int) {
	s.parked = append(s.parked, &parkedSlot{slot: slot, wait: unparkPoll})
	s.SteerAnew()
}

// Parked returns the parked slots.
func (s *Sockets) Parked() (out []int) {
	for _, p := range s.parked {
		out = append(out, p.slot)
	}
	return out
}

// unparked takes a slot's sockets back into service.
func (s *Sockets) unparked(slot int) {
	s.parked = slices.DeleteFunc(s.parked, func(p *parkedSlot) bool { return p.slot == slot })
}

// Unpark closes the sockets of parked slots, where nothing waits in them and nobody else holds them. It looks in the background
// who holds them.
func (s *Sockets) Unpark(now time.Time) {
	if s.unparking {
		return
	}
	inodes := make(proc.Inodes)
	var looked []*parkedSlot
	for _, p := range s.parked {
		if s.Queued(p.slot) {
			s.loop.Wake(now.Add(unparkPoll))
			continue
		}
		if !s.loop.Due(p.lookAt, now) {
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
	s.loop.Background(func() func() {
		held := proc.HoldersBySocket(inodes)
		return func() {
			s.unparking = false
			for _, p := range looked {
				s.closeParked(p, held)
			}
		}
	})
}

// closeParked closes the sockets of a parked slot that nobody else was seen to hold.
func (s *Sockets) closeParked(p *parkedSlot, held map[uint64][]proc.Holder) {
	if !slices.Contains(s.parked, p) || s.Queued(p.slot) {
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
			g.RemoveSteered(p.slot, among(s.targets()))
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
