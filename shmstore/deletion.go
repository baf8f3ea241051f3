package shmstore

// A series may move from one process to another: one makes it, then the other deletes it. At every instant some process
// shows it. But a reader looks at one file after the other. It may look at the first file before the series is made there,
// and at the second after it was deleted there. So a deletion counts only if it was seen in a look at all files that ended
// before the last listing of the directory and the last look at every file began: a process that shows the series when the
// first look ends still has it in the second, shown or deleted. A deletion that is seen later counts as shown, this once.

// KeepDeleted begins the second look with true and ends it with false. During the second look, series that Refresh finds
// deleted are Late, also in files that the view opens meanwhile. At its end the Late series are deleted, and Layout changes.
func (v *View) KeepDeleted(keep bool) {
	v.keeps = keep
	for _, r := range v.readers {
		r.keepDeleted(keep)
	}
}

func (r *Reader) keepDeleted(keep bool) {
	r.deleted.keeps, r.deleted.lost = keep, false
	if keep {
		return
	}
	for _, i := range r.deleted.marked {
		if i >= len(r.series) {
			continue
		}
		s := &r.series[i]
		if s.Late {
			r.seen.changes++
		}
		s.Late, s.Fresh = false, false
	}
	r.deleted.marked = r.deleted.marked[:0]
}

// Deletions returns a number that Refresh raises whenever it finds a series that was deleted since the last call, or
// before the first one.
func (r *Reader) Deletions() uint64 { return r.deleted.count }

// Lost reports whether a series that was shown since View.KeepDeleted(true) has gone from the file, so that it can neither
// be read nor be left out. Its record was used again: of a counter after a fold, of a gauge after a while.
func (r *Reader) Lost() bool { return r.deleted.lost }

// noteDeletion notes, when the record of series i goes to another state, in which it is s, whether a series was deleted.
func (r *Reader) noteDeletion(i int, state uint64, s *SeriesInfo) {
	before, old := r.records[i].state, &r.series[i]
	same := sameSeries(before, state)
	deleted := deletedBetween(before, state)
	if deleted {
		r.deleted.count++
	}
	if !r.deleted.keeps {
		return
	}
	if !same && (seriesStateOf(before) == seriesShown || old.Late) {
		r.deleted.lost = true
	}
	if s.Free {
		return
	}
	s.Fresh = old.Fresh || !same
	s.Late = s.Hidden && (deleted || old.Late)
	r.deleted.marked = append(r.deleted.marked, i)
}

// deletedBetween reports whether a series was deleted when a record went from one state to another. It was not if the record
// took one step from a state in which it showed nothing; before is 0 for a record that was never looked at.
func deletedBetween(before, now uint64) bool {
	return now>>8-before>>8 != 1 || seriesStateOf(before) == seriesShown
}
