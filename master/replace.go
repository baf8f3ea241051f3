package master

import (
	"errors"
	"fmt"
	"time"
)

// replacement gives one slot a successor: it starts beside the one that serves, on the same sockets; when it has been
// ready for the settling time the old one is told to stop, and the replacement is over when that has gone. Where the
// slot has no process the successor is its process.
type replacement struct {
	slot   *slot
	reason string // what the old one's end counts as

	fresh   *process
	old     *process
	swapped bool // the successor serves, and the old one was told to stop
}

// advance does what can be done now. It returns an error when the successor failed; the old one, if it was not told to
// stop yet, goes on.
func (r *replacement) advance(s *supervisor, now time.Time) (over bool, err error) {
	if r.fresh == nil {
		if err := r.begin(s); err != nil {
			return true, err
		}
	}
	if err := r.trouble(); err != nil {
		return true, err
	}
	if !r.swapped {
		if r.fresh.state != ready || !s.due(r.fresh.readyAt.Add(s.cfg.ReadySettle), now) {
			return false, nil
		}
		r.swap(s)
	}
	return r.old == nil || r.old.gone, nil
}

func (r *replacement) begin(s *supervisor) error {
	p, err := s.launch(r.slot.number)
	if err != nil {
		return err
	}
	r.fresh = p
	if r.slot.cur == nil {
		r.slot.cur, r.slot.started = p, p.started
		return nil
	}
	r.old, r.slot.next = r.slot.cur, p
	return nil
}

// trouble returns what is wrong with the successor.
func (r *replacement) trouble() error {
	p := r.fresh
	switch {
	case p.gone && p.readyAt.IsZero() && p.execErr != nil:
		return p.execErr
	case p.gone && p.readyAt.IsZero():
		return fmt.Errorf("the new worker ended before it was ready: %s", p.exit())
	case p.gone:
		return fmt.Errorf("the new worker ended %v after it was ready: %s", p.ended.Sub(p.readyAt).Round(time.Millisecond), p.exit())
	case p.stops && !p.reaped:
		return errors.New("the new worker stops by itself")
	}
	return nil
}

// swap makes the successor the slot's process and tells the old one to stop.
func (r *replacement) swap(s *supervisor) {
	r.swapped = true
	sl := r.slot
	sl.failures = 0
	sl.restarts++
	s.counters.restart(r.reason)
	if sl.next != r.fresh {
		return // the old one died meanwhile, and the successor took its place
	}
	sl.old = append(sl.old, sl.cur)
	sl.cur, sl.next, sl.started = r.fresh, nil, r.fresh.started
	s.stop(r.old, r.reason)
}

// cancel ends it halfway: a successor that does not serve yet goes.
func (r *replacement) cancel(s *supervisor) {
	if sl := r.slot; sl.next != nil && sl.next == r.fresh {
		sl.next = nil
		sl.old = append(sl.old, r.fresh)
		s.stop(r.fresh, "stop")
	}
}

// recycling replaces the worker of one slot because it asked for it or is too old.
type recycling struct{ replacement }

// retryRecycling is when a replacement that failed is tried again.
const retryRecycling = 30 * time.Second

func (r *recycling) step(s *supervisor, now time.Time) bool {
	over, err := r.advance(s, now)
	if err != nil {
		r.cancel(s)
		s.log.Error("worker not replaced: it goes on", "slot", r.slot.number, "reason", r.reason, "err", err)
		if p := r.old; p != nil && !p.gone {
			p.renew, p.renewAt = false, now.Add(retryRecycling)
		}
	}
	return over
}

func (r *recycling) abort(s *supervisor) { r.cancel(s) }

// rolling is a rolling restart: the slots one after the other. The first successor that fails ends it.
type rolling struct {
	record *Rollout
	began  time.Time
	queue  []*slot // still to do
	now    *replacement
	fresh  []*process // the new workers that serve
}

// probation is how long a new worker must live for the rollout that it is part of to go on, at least.
const probation = 5 * time.Second

func (s *supervisor) newRollout(kind string) *rolling {
	s.rollout = &Rollout{ID: s.rolloutID() + 1, Kind: kind, State: running, Total: len(s.slots)}
	s.log.Info("rolling restart begins", "rollout", s.rollout.ID, "kind", kind, "workers", len(s.slots))
	return s.roll(s.rollout, time.Now())
}

func (s *supervisor) rolloutID() int {
	if s.rollout == nil {
		return 0
	}
	return s.rollout.ID
}

func (s *supervisor) roll(record *Rollout, began time.Time) *rolling {
	return &rolling{record: record, began: began, queue: append([]*slot(nil), s.slots...)}
}

func (r *rolling) step(s *supervisor, now time.Time) bool {
	for {
		if err := r.lost(s); err != nil {
			r.end(s, err)
			return true
		}
		if r.now == nil {
			if len(r.queue) == 0 {
				r.end(s, nil)
				return true
			}
			r.now = &replacement{slot: r.queue[0], reason: r.record.Kind}
			r.queue = r.queue[1:]
		}
		over, err := r.now.advance(s, now)
		if err != nil {
			r.end(s, fmt.Errorf("slot %d: %w", r.now.slot.number, err))
			return true
		}
		if !over {
			return false
		}
		r.record.Done++
		r.fresh = append(r.fresh, r.now.fresh)
		s.log.Info("worker replaced", "slot", r.now.slot.number, "rollout", r.record.ID, "done", r.record.Done, "of",
			r.record.Total)
		r.now = nil
	}
}

// lost returns an error when one of the new workers died soon after it was ready.
func (r *rolling) lost(s *supervisor) error {
	for _, p := range r.fresh {
		if p.gone && p.cause == "" && p.ended.Sub(p.readyAt) < max(probation, s.cfg.ReadySettle) {
			return fmt.Errorf("slot %d: the new worker ended %v after it was ready: %s", p.slot,
				p.ended.Sub(p.readyAt).Round(time.Millisecond), p.exit())
		}
	}
	return nil
}

func (r *rolling) end(s *supervisor, err error) {
	if r.record.State != running {
		return
	}
	r.record.State = done
	if err != nil {
		r.record.State, r.record.Error = abandoned, err.Error()
		if r.now != nil {
			r.now.cancel(s)
		}
		s.log.Error("rolling restart abandoned: the workers that were not replaced go on as they are", "rollout", r.record.ID,
			"done", r.record.Done, "of", r.record.Total, "err", err)
	} else {
		s.log.Info("rolling restart done", "rollout", r.record.ID, "workers", r.record.Done,
			"took", time.Since(r.began).Round(time.Millisecond))
	}
	s.counters.rollout(r.record.Kind, r.record.State, time.Since(r.began))
}

func (r *rolling) abort(s *supervisor) { r.end(s, errors.New("the master stops")) }

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
