package master

import (
	"time"
)

// growth adds slots until there are as many as there are to be.
type growth struct{}

func (*growth) step(s *supervisor, _ time.Time) bool {
	for len(s.slots) < s.target {
		if err := s.addSlot(); err != nil {
			s.log.Error("no more workers", "workers", len(s.slots), "wanted", s.target, "err", err)
			s.target = len(s.slots)
		}
	}
	return true
}

func (*growth) abort(*supervisor) {}

// addSlot opens the next slot. Its worker starts with the next step.
func (s *supervisor) addSlot() error {
	n := len(s.slots)
	for _, g := range s.groups {
		if err := g.add(n); err != nil {
			for _, g := range s.groups {
				s.closeSocket(g, n)
			}
			return err
		}
	}
	s.unparked(n)
	s.slots = append(s.slots, &slot{number: n})
	s.steered = nil
	s.wake(time.Now())
	return nil
}
