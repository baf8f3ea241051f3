package master

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/onescrape/onescrape/master/internal/sockets"
	"github.com/onescrape/onescrape/master/internal/system"
)

// growthState is why the next slot could not be opened.
type growthState struct {
	at       time.Time // of the next try
	tries    int       // how many failed, in a row
	shortage string    // why; "": nothing has failed
}

// growth adds slots until there are Target slots.
type growth struct{}

func (*growth) step(s *supervisor, _ time.Time) bool {
	for len(s.slots) < s.Target {
		err := s.addSlot()
		switch {
		case err == nil:
			s.requests.growth = growthState{}
		case system.Temporary(err):
			s.noSlot(err)
			return true
		default:
			s.log.Error("no more workers", "workers", len(s.slots), "wanted", s.Target, "err", err)
			s.Target = len(s.slots)
		}
	}
	return true
}

// noSlot schedules the next try to open a slot, because the system does not give now what it needs.
func (s *supervisor) noSlot(err error) {
	s.requests.growth.tries++
	wait := backoff(s.requests.growth.tries, s.sys.Random())
	s.requests.growth.at = s.loop.Now().Add(wait)
	s.loop.Wake(s.requests.growth.at)
	level := slog.LevelError
	if s.requests.growth.shortage == err.Error() {
		level = slog.LevelDebug // it was logged as an error already
	}
	s.requests.growth.shortage = err.Error()
	s.log.Log(context.Background(), level, "no more workers for now; it is tried again", "workers", len(s.slots), "wanted",
		s.Target, "err", err, "next", wait.Round(time.Millisecond))
}

func (*growth) abort(*supervisor) {}

// addSlot opens the next slot. Its worker starts with the next step.
func (s *supervisor) addSlot() error {
	n := len(s.slots)
	if err := s.sockets.AddSlot(n); err != nil {
		return err
	}
	s.slots = append(s.slots, &slot{number: n})
	s.loop.Wake(s.loop.Now())
	return nil
}

// retirement gives the last slot up. Its sockets must not be closed while a client's connection is in one of them:
// closing resets what waits in the queue, and what comes out of a handshake that is under way. So, in this order:
// steer around the slot, so that nothing new comes; while its worker still accepts, wait until every handshake that
// was half open then is through and the queue is empty; stop the worker; look at the queue again; close. What is
// left in the queue because the worker hung is answered by another one that is started on the slot. What several cannot
// empty stays open, excluded, and serves the next slot of that number.
type retirement struct {
	slot     *slot
	began    time.Time
	excluded *sockets.Exclusion
	stopped  bool
	rescues  int // how many workers were started to empty the queue
}

func newRetirement(sl *slot) *retirement { return &retirement{slot: sl} }

func (r *retirement) step(s *supervisor, now time.Time) bool {
	sl := r.slot
	if r.began.IsZero() {
		r.began = now
		sl.retiring = true
		s.sockets.Steer()
		r.excluded = s.sockets.Exclude(sl.number, now)
		s.log.Info("worker retires", "slot", sl.number)
	}
	if !r.stopped {
		if now.Sub(r.began) < r.limit(s) && r.excluded.Pending(now) {
			if sl.empty() && s.startDue(sl, now) {
				s.start(sl) // its worker died, and somebody must answer what waits
			}
			s.loop.Wake(now.Add(sockets.ExclusionPoll))
			return false
		}
		r.stopped = true
		for _, p := range s.inOrder() {
			if p.Slot == sl.number {
				s.stop(p, "stop")
			}
		}
	}
	if !sl.empty() {
		return false
	}
	if s.sockets.Queued(sl.number) {
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
	s.sockets.CloseLater(sl.number)
	s.sockets.Steer()
	s.sockets.CloseDue(now)
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

func (r *retirement) abort(*supervisor) {}
