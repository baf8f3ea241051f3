package master

import (
	"errors"
	"fmt"
	"time"

	"github.com/onescrape/onescrape/master/internal/release"
)

// rolling is a rolling restart: the slots one after the other. The first successor that fails ends it.
type rolling struct {
	record *Rollout
	began  time.Time
	queue  []*slot // still to do
	now    *replacement
	last   *process // the worker that was installed last
	broken error    // how a new worker that was installed ended

	// What it installs, noted when its first successor starts.
	program string // the path; "": not noted yet
	file    release.File
	dir     string
}

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
		if r.broken != nil {
			r.end(s, r.broken)
			return true
		}
		if r.now == nil {
			if len(r.queue) == 0 {
				if !r.lastSettled(s, now) {
					return false
				}
				r.end(s, nil)
				return true
			}
			r.now = &replacement{slot: r.queue[0], reason: r.record.Kind, roll: r}
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
		r.last = r.now.fresh
		s.log.Info("worker replaced", "slot", r.now.slot.number, "rollout", r.record.ID, "done", r.record.Done, "of",
			r.record.Total)
		r.now = nil
	}
}

// noteEnd notes the end of a process. The first worker of the new release that ends with an error ends the rollout,
// however long after READY=1. That is also true of a worker that took the place of another one of the new release.
func (r *rolling) noteEnd(p *process) {
	if r.broken != nil || p.rollout != r.record.ID || r.now != nil && p == r.now.fresh {
		return // advance looks at the last one itself
	}
	if p.erred() {
		r.broken = fmt.Errorf("slot %d: %w", p.slot, p.died())
	}
}

// lastSettled reports whether the worker that was installed last has settled. Where READY=1 alone is not trusted, the
// rollout is over only then.
func (r *rolling) lastSettled(s *supervisor, now time.Time) bool {
	return s.cfg.ReadySettle == 0 || r.last == nil || r.last.gone || s.due(r.last.readyAt.Add(settled), now)
}

func (r *rolling) end(s *supervisor, err error) {
	if r.record.State != running {
		return
	}
	r.record.State = done
	if err == nil && r.program != "" {
		s.dir = r.dir
	}
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
