package master

import "slices"

// steer directs new connections evenly to the sockets of the slots that accept. When no slot accepts, the last program
// stays, and connections wait in the queues for the next workers. The table is compared with the kernel's group before it
// is used; where the kernel cannot be asked, the table alone counts.
func (g *group) steer(accepts func(slot int) bool) error {
	if g.shared {
		return nil
	}
	g.compare()
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
	return attach(g.anyFD(), steeringProgram(ready))
}

// anyFD returns a socket of this process in the group, -1 when there is none.
func (g *group) anyFD() int {
	for _, s := range g.sockets {
		if s.fd >= 0 {
			return s.fd
		}
	}
	return -1
}
