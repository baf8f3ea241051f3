package aggregate

import "google.golang.org/protobuf/types/known/timestamppb"

// The created time of a row is the oldest of its sources': of all whose counts are in its value, those that have
// deleted it and the archive too. So it stays while workers come, go and are folded, and it changes when the value
// starts anew, after everybody has deleted the series.

// age makes a row's created time that of a source, if it is older. Gauges have none.
func (f *family) age(r *row, ns int64) {
	if f.rule.Mode == 0 && ns > 0 && (r.oldest == 0 || ns < r.oldest) {
		r.oldest = ns
	}
}

// stamp makes t the created time of a row; nil when it is unknown.
func (f *family) stamp(t *timestamppb.Timestamp, n int32) *timestamppb.Timestamp {
	oldest := f.rows[n].oldest
	if oldest == 0 {
		return nil
	}
	t.Seconds, t.Nanos = oldest/1e9, int32(oldest%1e9)
	return t
}

// rejuvenate finds created times anew after a row has lost a source, which may have been the oldest, and kept others.
func (f *family) rejuvenate() {
	if f.bereft == 0 {
		return
	}
	f.bereft = 0
	for i := range f.rows {
		f.rows[i].oldest, f.rows[i].bereft = 0, false
	}
	for _, d := range f.decls {
		for _, list := range [2]entries{d.hidden, d.shown} {
			for e := range list.each {
				f.age(&f.rows[e.row], d.created(e))
			}
		}
	}
}

// created returns when the series of an entry began.
func (d *decl) created(e entry) int64 {
	if d.archived != nil {
		return d.archived[e.series].Created.UnixNano()
	}
	return d.reader.Series()[e.series].Created
}
