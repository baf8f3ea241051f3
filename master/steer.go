package master

import "slices"

// steer directs new connections to the sockets of the slots that accept, evenly. With none the last program stays, and
// connections wait in the queues for whoever comes.
func (g *group) steer(accepts func(slot int) bool) error {
	if g.shared {
		return nil
	}
	var ready []int
	for i, s := range g.sockets {
		if accepts(s.slot) {
			ready = append(ready, i)
		}
	}
	if len(ready) == 0 {
		return nil
	}
	slices.Sort(ready)
	return attach(g.sockets[0].fd, ready)
}
