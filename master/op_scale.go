package master

import (
	"context"
	"log/slog"
	"time"

	"github.com/onescrape/onescrape/master/internal/reuseport"
)

// growth adds slots until there are as many as there are to be.
type growth struct{}

func (*growth) step(s *supervisor, _ time.Time) bool {
	for len(s.slots) < s.target {
		err := s.addSlot()
		switch {
		case err == nil:
			s.growTries, s.growAt, s.shortage = 0, time.Time{}, ""
		case temporary(err):
			s.noSlot(err)
			return true
		default:
			s.log.Error("no more workers", "workers", len(s.slots), "wanted", s.target, "err", err)
			s.target = len(s.slots)
		}
	}
	return true
}

// noSlot has the next slot opened later, because it cannot be now.
func (s *supervisor) noSlot(err error) {
	s.growTries++
	wait := backoff(s.growTries)
	s.growAt = time.Now().Add(wait)
	s.wake(s.growAt)
	level := slog.LevelError
	if s.shortage == err.Error() {
		level = slog.LevelDebug // it was said
	}
	s.shortage = err.Error()
	s.log.Log(context.Background(), level, "no more workers for now; it is tried again", "workers", len(s.slots), "wanted",
		s.target, "err", err, "next", wait.Round(time.Millisecond))
}

func (*growth) abort(*supervisor) {}

// addSlot opens the next slot. Its worker starts with the next step.
func (s *supervisor) addSlot() error {
	n := len(s.slots)
	var added []*reuseport.Group // but not those where the slot's socket was parked
	for _, g := range s.groups {
		if g.Has(n) {
			continue
		}
		if err := g.Add(n); err != nil {
			for _, g := range added {
				g.RemoveSteered(n, among(s.targets(time.Now())))
			}
			return err
		}
		added = append(added, g)
	}
	s.unparked(n)
	s.slots = append(s.slots, &slot{number: n})
	s.steered = nil
	s.wake(time.Now())
	return nil
}
