package reuseport

import "slices"

// Steer directs new connections evenly to the sockets of the slots that accept. When no slot accepts, the last program
// stays, and connections wait in the queues for the next workers. The table is compared with the kernel's group before it
// is used; where the kernel cannot be asked, the table alone counts.
func (g *Group) Steer(accepts func(slot int) bool) error {
	if g.shared {
		return nil
	}
	g.Compare()
	var ready []int
	for i, s := range g.sockets {
		if s.fd >= 0 && accepts(s.slot) {
			ready = append(ready, i)
		}
	}
	if len(ready) == 0 {
		return nil
	}
	slices.Sort(ready)
	g.attached = ready
	return g.kernel.Attach(g.anyFD(), steeringProgram(ready))
}

// anyFD returns a socket of this process in the group, -1 when there is none.
func (g *Group) anyFD() int {
	for _, s := range g.sockets {
		if s.fd >= 0 {
			return s.fd
		}
	}
	return -1
}

// RemoveSteered closes the socket of a slot, by the kernel's rule that the last one takes its index: the program that is
// attached meanwhile names neither, and then the last one at its new place.
func (g *Group) RemoveSteered(slot int, accepts func(slot int) bool) {
	i := g.index(slot)
	if i < 0 || g.shared {
		return
	}
	last := g.sockets[len(g.sockets)-1].slot
	if last != slot {
		g.Steer(func(s int) bool { return s != last && s != slot && accepts(s) })
	}
	g.Remove(slot)
	if last != slot {
		g.Steer(accepts)
	}
}
