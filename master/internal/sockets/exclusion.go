package sockets

import (
	"slices"
	"time"

	"github.com/onescrape/onescrape/master/internal/reuseport"
)

// Exclusion waits for what was on its way to a slot when new connections were steered around it. Closing a socket resets what waits in
// its queue, and what comes out of a handshake that is under way. The control goroutine owns it.
type Exclusion struct {
	sockets *Sockets
	slot    int
	began   time.Time
	halfway map[reuseport.Handshake]bool // half open when the slot was excluded, at all addresses
	settled bool                         // halfway has all of them
}

// ExclusionPoll is how often the queues are looked at: the kernel tells nobody.
const ExclusionPoll = 10 * time.Millisecond

// Exclude begins to wait. New connections must be steered around the slot already.
func (s *Sockets) Exclude(slot int, now time.Time) *Exclusion {
	e := &Exclusion{sockets: s, slot: slot, began: now, halfway: make(map[reuseport.Handshake]bool)}
	e.note()
	return e
}

// note keeps the handshakes that are under way. It is called twice: while the steering program is replaced, another processor
// may be choosing a socket by the old one, and that handshake shows a little later.
func (e *Exclusion) note() {
	for _, h := range e.sockets.handshakes() {
		e.halfway[h] = true
	}
}

// Pending reports whether a connection can still come out of the slot's sockets.
func (e *Exclusion) Pending(now time.Time) bool {
	if !e.settled {
		if now.Sub(e.began) < ExclusionPoll {
			return true
		}
		e.note()
		e.settled = true
	}
	return e.sockets.Queued(e.slot) ||
		slices.ContainsFunc(e.sockets.handshakes(), func(h reuseport.Handshake) bool { return e.halfway[h] })
}
