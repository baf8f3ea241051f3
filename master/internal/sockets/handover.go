package sockets

import (
	"github.com/onescrape/onescrape/master/internal/reuseport"
)

// State describes the addresses of the configuration for a handover. keep has a descriptor stay open and returns its number in
// the next program.
func (s *Sockets) State(keep func(fd int) int) (out []reuseport.State) {
	for _, g := range s.groups {
		out = append(out, g.State(keep))
	}
	return out
}

// Adopt goes on with the sockets that another master left.
func (s *Sockets) Adopt(states []reuseport.State, closing []int) error {
	for _, slot := range closing {
		s.CloseLater(slot)
	}
	var groups []*reuseport.Group
	for _, state := range states {
		g, err := reuseport.Adopt(s.sys.Kernel(), state)
		if err != nil {
			return err
		}
		groups = append(groups, g)
	}
	s.groups = groups
	return nil
}

// Reconfigure makes wanted the addresses of the master. Those that it has keep their sockets, others are opened with sockets for
// so many slots, by the upgrade of that number, and those that are not wanted are closed by CloseRemoved. After an error everything is
// as it was.
func (s *Sockets) Reconfigure(wanted []reuseport.Address, slots, upgrade int, open func(reuseport.Address) (*reuseport.Group, error)) error {
	had := s.groups
	var groups, opened []*reuseport.Group
	kept := make(map[*reuseport.Group]bool)
	take := func(a reuseport.Address) error {
		for _, g := range had {
			if !kept[g] && g.Spec() == a.Spec() {
				kept[g] = true
				groups = append(groups, g)
				return g.Reconfigure(a)
			}
		}
		g, err := open(a)
		if err != nil {
			return err
		}
		g.Since = upgrade
		opened, groups = append(opened, g), append(groups, g)
		for slot := range slots {
			if err := g.Add(slot); err != nil {
				return err
			}
		}
		return nil
	}
	for _, a := range wanted {
		if err := take(a); err != nil {
			for _, g := range opened {
				g.Close()
			}
			return err
		}
	}
	s.groups = groups
	s.SteerAnew()
	for _, g := range had {
		if !kept[g] {
			s.removed = append(s.removed, g)
		}
	}
	return nil
}
