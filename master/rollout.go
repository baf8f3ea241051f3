package master

import (
	"errors"
	"fmt"
	"time"
)

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
