package master

import (
	"slices"
	"time"

	"github.com/onescrape/onescrape/master/internal/reuseport"
)

// retirement gives the last slot up. Its sockets must not be closed while a client's connection is in one of them:
// closing resets what waits in the queue, and what comes out of a handshake that is under way. So, in this order:
// steer around the slot, so that nothing new comes; while its worker still accepts, wait until every handshake that
// was half open then is through and the queue is empty; stop the worker; look at the queue again; close. What is
// left in the queue because the worker hung is answered by another one that is started on the slot. What several cannot
// empty stays open, excluded, and serves the next slot of that number.
type retirement struct {
	slot    *slot
	began   time.Time
	halfway map[reuseport.Handshake]bool // half open when the slot was excluded, per address
	settled bool                         // halfway has all of them
	stopped bool
	rescues int // how many workers were started to empty the queue
}

func newRetirement(sl *slot) *retirement { return &retirement{slot: sl} }

// retirePoll is how often the queues are looked at: the kernel tells nobody.
const retirePoll = 10 * time.Millisecond

func (r *retirement) step(s *supervisor, now time.Time) bool {
	sl := r.slot
	if r.began.IsZero() {
		r.began = now
		sl.retiring = true
		s.steer()
		r.halfway = make(map[reuseport.Handshake]bool)
		r.note(s)
		s.log.Info("worker retires", "slot", sl.number)
	}
	if !r.stopped {
		if !r.settled && now.Sub(r.began) >= retirePoll {
			r.note(s)
			r.settled = true
		}
		if now.Sub(r.began) < r.limit(s) && (!r.settled || r.pending(s)) {
			if sl.empty() && s.startDue(sl, now) {
				s.start(sl) // its worker died, and somebody must answer what waits
			}
			s.wake(now.Add(retirePoll))
			return false
		}
		r.stopped = true
		for _, p := range s.processes {
			if p.slot == sl.number {
				s.stop(p, "stop")
			}
		}
	}
	if !sl.empty() {
		return false
	}
	if s.queued(sl.number) {
		if r.rescues < mostRescues {
			r.rescues++
			r.stopped, r.began = false, now
			s.log.Warn("connections wait in the socket of a slot that is given up: another worker is started to answer them",
				"slot", sl.number)
			return r.step(s, now)
		}
		s.log.Error("connections wait in the socket of a slot that is given up, and no worker answers them: the next worker "+
			"of that slot gets them", "slot", sl.number, "workers_tried", r.rescues)
	}
	s.slots = slices.DeleteFunc(s.slots, func(o *slot) bool { return o == sl })
	s.steered = nil
	s.park(sl.number)
	s.unpark(now)
	return true
}

// mostRescues is how many workers are started to empty the queue of a slot that is given up. When that many hang or crash,
// the release does not answer anyway, and other operations must not wait for it for ever.
const mostRescues = 3

// limit is how long a worker may take to empty the queue before it is stopped nevertheless.
func (r *retirement) limit(s *supervisor) time.Duration {
	if r.rescues > 0 {
		return s.cfg.ReadyTimeout + s.cfg.GracefulTimeout
	}
	return s.cfg.GracefulTimeout
}

// note takes down the handshakes under way. It is done twice: a processor that the kernel was choosing a socket on when the
// program that steers was replaced may show the handshake a little later.
func (r *retirement) note(s *supervisor) {
	for _, g := range s.groups {
		for _, h := range g.Handshakes() {
			r.halfway[h] = true
		}
	}
}

// pending reports whether a connection can still come out of the slot's sockets.
func (r *retirement) pending(s *supervisor) bool {
	for _, g := range s.groups {
		if g.Queued(r.slot.number) {
			return true
		}
		for _, h := range g.Handshakes() {
			if r.halfway[h] {
				return true
			}
		}
	}
	return false
}

func (r *retirement) abort(*supervisor) {}
