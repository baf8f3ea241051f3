package aggregate

import "google.golang.org/protobuf/types/known/timestamppb"

// The created time of a row is the oldest of its sources': of all whose counts are in its value, those that have
// deleted it and the archive too. So it stays while workers come, go and are folded, and it changes when the value
// starts anew, after everybody has deleted the series.

// noteCreated makes a row's created time that of a source, if it is older. Gauges have none.
func (f *family) noteCreated(r *row, ns int64) {
	if f.rule.Mode == 0 && ns > 0 && (r.created == 0 || ns < r.created) {
		r.created = ns
	}
}

// stamp makes t the created time of a row; nil when it is unknown.
func (f *family) stamp(t *timestamppb.Timestamp, n int32) *timestamppb.Timestamp {
	oldest := f.rows[n].created
	if oldest == 0 {
		return nil
	}
	t.Seconds, t.Nanos = oldest/1e9, int32(oldest%1e9)
	return t
}

// recomputeCreated finds created times anew after a row has lost a source, which may have been the oldest, and kept others.
func (f *family) recomputeCreated() {
	if f.createdStale == 0 {
		return
	}
	f.createdStale = 0
	for i := range f.rows {
		f.rows[i].created, f.rows[i].createdStale = 0, false
	}
	for _, d := range f.contributions {
		for _, list := range [2]entries{d.hidden, d.shown} {
			for e := range list.each {
				f.noteCreated(&f.rows[e.row], d.created(e))
			}
		}
	}
}

// created returns when the series of an entry began.
func (d *contribution) created(e entry) int64 {
	if d.archived != nil {
		return d.archived[e.series].Created.UnixNano()
	}
	return d.reader.Series()[e.series].Created
}
