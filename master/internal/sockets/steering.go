package sockets

import (
	"fmt"
	"reflect"
	"time"

	"github.com/onescrape/onescrape/master/internal/reuseport"
)

// steering is where new connections go.
type steering struct {
	known bool     // the attached programs are for slots
	slots [][]bool // by address and by slot
	text  string   // "on" or "off: REASON"
}

// Steering returns "on", or "off: " and why the kernel chooses the socket of a new connection by itself.
func (s *Sockets) Steering() string { return s.steering.text }

// SteerAnew has the next Steer attach its programs even if the targets have not changed.
func (s *Sockets) SteerAnew() { s.steering.known = false }

// Steer has new connections go to the targets, when those have changed.
func (s *Sockets) Steer() {
	var want [][]bool
	for _, g := range s.groups {
		want = append(want, s.targets(g.Since))
	}
	if s.steering.known && reflect.DeepEqual(want, s.steering.slots) {
		return
	}
	s.steering.known, s.steering.slots = true, want
	for _, p := range s.closing {
		p.last = nil // what was steered there until now is on its way
	}
	steered, off, why := 0, false, "no addresses"
	for i, g := range s.groups {
		err := g.Steer(among(want[i]))
		switch {
		case g.Sharing() != "":
			why = g.Sharing()
			off = off || g.IsTCP() // it should be steered
		case err != nil:
			s.log.Error("steering failed: connections go to all sockets, those of slots without a worker included",
				"address", g.Where(), "err", err)
			why, off, s.steering.known = err.Error(), true, false
			s.loop.Wake(s.loop.Now().Add(time.Second))
		default:
			steered++
		}
	}
	s.steering.text = "on"
	if off || steered == 0 {
		s.steering.text = "off: " + why
	}
}

// SteerToAll lets every socket have its share, for a start: what arrives until somebody is ready waits for that slot's worker.
func (s *Sockets) SteerToAll() error {
	for _, g := range s.groups {
		if err := g.Steer(func(int) bool { return true }); err != nil {
			return fmt.Errorf("master: steer %s: %w", g.Where(), err)
		}
		if g.Sharing() != "" && reuseport.Steerable && g.IsTCP() {
			s.log.Warn("steering is off: all workers share one socket, and the kernel decides who gets how much",
				"address", g.Where(), "reason", g.Sharing())
		}
	}
	return nil
}
