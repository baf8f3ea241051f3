package master

import "time"

// replacement gives one slot a successor: it starts beside the one that serves, on the same sockets; when it has been
// ready for the settling time the old one is told to stop, and the replacement is over when that has gone. Where the
// slot has no process the successor is its process.
type replacement struct {
	slot   *slot
	reason string   // what the old one's end counts as
	roll   *rolling // the rollout that it is a part of; nil: none

	fresh   *process
	old     *process
	tries   int  // how many successors were started
	swapped bool // the successor serves, and the old one was told to stop
}

// advance does what can be done now. It returns an error when the successor failed. The old process then goes on, unless it was
// told to stop already.
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
		switch {
		case r.fresh.end.gone:
			r.fresh = nil // it ended without an error before it could take over: start another one
			return r.advance(s, now)
		case r.fresh.State != ready || r.fresh.end.reaped || !s.loop.Due(r.fresh.ReadyAt.Add(s.cfg.ReadySettle), now):
			return false, nil
		}
		if r.roll != nil {
			if err := r.roll.stands(s); err != nil {
				return true, err
			}
		}
		r.swap(s)
	}
	return r.old == nil || r.old.end.gone, nil
}

func (r *replacement) begin(s *supervisor) error {
	dir, err := r.dir(s)
	if err != nil {
		return err
	}
	p, err := s.launch(r.slot.number, dir)
	if err != nil {
		return err
	}
	r.fresh, r.old = p, nil
	r.tries++
	if r.slot.cur == nil {
		r.slot.cur, r.slot.Started = p, p.Started
		return nil
	}
	r.old, r.slot.next = r.slot.cur, p
	return nil
}

// dir returns the directory of the successor: the rollout's, or that of the slot's other workers.
func (r *replacement) dir(s *supervisor) (string, error) {
	if r.roll == nil {
		return s.dirOf(r.slot)
	}
	if err := r.roll.prepare(s); err != nil {
		return "", err
	}
	return r.roll.dir, nil
}

// trouble returns what is wrong with the successor. A successor may end without an error after READY=1: it may be one that
// lives for a few requests only. While the old one serves, only a few of them may do so.
func (r *replacement) trouble() error {
	p := r.fresh
	if !p.end.gone {
		return nil
	}
	switch {
	case p.erred(), p.ReadyAt.IsZero(), !r.swapped && r.tries >= crashErrors:
		return p.died()
	}
	return nil
}

// swap makes the successor the slot's process and tells the old one to stop.
func (r *replacement) swap(s *supervisor) {
	r.swapped = true
	sl := r.slot
	sl.Failures = 0
	if r.reason != recycle {
		sl.recovered()
	}
	sl.Restarts++
	s.metrics.Restart(r.reason)
	if sl.next != r.fresh {
		return // the old one died meanwhile, and the successor took its place
	}
	sl.old = append(sl.old, sl.cur)
	sl.cur, sl.next, sl.Started = r.fresh, nil, r.fresh.Started
	s.stop(r.old, r.reason)
}

// cancel ends a replacement halfway. A successor that does not serve yet is stopped.
func (r *replacement) cancel(s *supervisor) {
	if sl := r.slot; sl.next != nil && sl.next == r.fresh {
		sl.next = nil
		sl.old = append(sl.old, r.fresh)
		s.stop(r.fresh, "stop")
	}
}

// recycle is the reason of a replacement by the same release.
const recycle = "recycle"

// recycling replaces the worker of one slot because it asked for it or is too old.
type recycling struct{ replacement }

// retryRecycling is when a replacement that failed is tried again.
const retryRecycling = 30 * time.Second

func (r *recycling) step(s *supervisor, now time.Time) bool {
	over, err := r.advance(s, now)
	if err != nil {
		r.cancel(s)
		s.log.Error("worker not replaced: it goes on", "slot", r.slot.number, "reason", r.reason, "err", err)
		p := r.old
		if p == nil {
			p = r.slot.cur // no successor was started
		}
		if p != nil && !p.end.gone {
			p.recycleRequested, p.RecycleAt = false, now.Add(retryRecycling)
		}
	}
	return over
}

func (r *recycling) abort(s *supervisor) { r.cancel(s) }
