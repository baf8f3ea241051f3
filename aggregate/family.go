package aggregate

import (
	"cmp"
	"slices"

	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
)

// family is a metric family as it is exposed. Its rows are the exposed series; each series of an origin adds into one row.
type family struct {
	definition
	rowIndex
	columns
	templates [syntaxes]*lineTemplate // nil where the rule is newer
	lines     quantileLines           // of a summary
}

// definition has the definitions that origins have of a family, and which of them rules.
type definition struct {
	name  string
	label string // of the slots, where the mode is All

	contributions []*contribution        // all of this name, whatever they say
	rule          shmstore.Family        // the definition that counts
	dirty         bool                   // contributions, or their origins' ranks, changed since it was chosen
	conflict      map[string]bool        // keys of the definitions that are left out
	shadowed      bool                   // left out, because another family's samples would have its name
	slotOwners    map[int]*origin.Origin // in the modes all and liveall, whose gauges each slot shows; else nil
}

func newFamily(name, label string) *family {
	return &family{
		definition: definition{name: name, label: label, dirty: true, conflict: map[string]bool{}},
		rowIndex:   rowIndex{index: map[string]int32{}},
	}
}

// ruling returns the contribution that rules: that of the origin that ranks highest. nil when there is none.
func (f *family) ruling() *contribution {
	var best *contribution
	for _, d := range f.contributions {
		if best == nil || cmp.Or(d.origin.CompareRule(best.origin), cmp.Compare(d.number, best.number)) > 0 {
			best = d
		}
	}
	return best
}

// chooseRule makes the ruling definition the rule and returns the definitions that are newly left out.
func (f *family) chooseRule() (outranked []*contribution) {
	f.dirty = false
	win := f.ruling().def
	same := f.rule.Type == win.Type && f.rule.Mode == win.Mode && slices.Equal(f.rule.Bounds, win.Bounds) &&
		(f.rule.Native != nil) == (win.Native != nil)
	f.rule, f.templates = win, [syntaxes]*lineTemplate{}
	if !same {
		f.reset()
	}
	conflict := map[string]bool{}
	for _, d := range f.contributions {
		other := d.def.Type != win.Type
		if !same || other != d.outranked {
			if same {
				d.clear()
			}
			d.adapt(other)
		}
		if !other {
			continue
		}
		key := d.def.Key()
		if !f.conflict[key] && !conflict[key] {
			outranked = append(outranked, d)
		}
		conflict[key] = true
	}
	f.conflict = conflict
	return outranked
}

// chooseOwners decides, in the modes all and liveall, whose gauges each slot shows: those of the highest rank that has the
// family, whether it has the same series or not, so that what it deleted does not come back from its predecessor.
func (f *family) chooseOwners() {
	f.slotOwners = nil
	if f.rule.Mode.Base() != shmstore.All {
		return
	}
	f.slotOwners = map[int]*origin.Origin{}
	for _, d := range f.contributions {
		if d.outranked || f.rule.Mode.Live() && !d.origin.Alive {
			continue
		}
		if best := f.slotOwners[d.origin.Info.Slot]; best == nil || d.origin.Compare(best) > 0 {
			f.slotOwners[d.origin.Info.Slot] = d.origin
		}
	}
}

// reset drops all rows.
func (f *family) reset() {
	f.slotOwners, f.columns, f.lines = nil, columns{}, quantileLines{}
	f.rowIndex = rowIndex{index: map[string]int32{}, arranged: f.arranged + 1}
}

// sameSeries reports whether row n was made of a series that has the same label values in the same memory, as those of
// processes of one program mostly have, and the same names; then it is the row of s.
func (f *family) sameSeries(n int32, d *contribution, s *shmstore.SeriesInfo) bool {
	if int(n) >= len(f.rows) || len(s.Values) == 0 || f.rule.Mode.Base() == shmstore.All {
		return false
	}
	r := &f.rows[n]
	return r.refs > 0 && r.values == &s.Values[0] && &r.names[0] == &d.def.Labels[0]
}

// take returns the row of a series, with one reference more. The key is its identity, and hash the key's.
func (f *family) take(d *contribution, s *shmstore.SeriesInfo, key []byte, hash uint64) int32 {
	names, values := d.def.Labels, s.Values
	if f.rule.Mode.Base() == shmstore.All {
		names, values = withSlot(names, values, f.label, d.origin.SlotLabel())
		key = identity(nil, names, values)
	}
	n, ok := f.find(d.next, key)
	if !ok {
		n = f.newRow(string(key))
	}
	r := &f.rows[n]
	replace := r.refs == 0
	if ok && (replace && !slices.Equal(names, r.names) || !replace && moreLabels(names, r.names)) {
		f.unsorted, replace = true, true
		r.labels = nil
	}
	r.refs++
	if replace {
		r.names, r.values, r.hash = names, nil, hash
		if len(s.Values) > 0 {
			r.values = &s.Values[0]
		}
	}
	if r.labels == nil {
		r.labels, r.text = labelPairs(names, values), labelsText(names, values)
	}
	f.noteCreated(r, s.Created)
	return n
}

// keepRow takes one reference more to a row, for a series that it has already.
func (f *family) keepRow(n int32, s *shmstore.SeriesInfo) {
	f.rows[n].refs++
	f.noteCreated(&f.rows[n], s.Created)
}

// drop takes one reference to a row away.
func (f *family) drop(n int32) {
	if f.release(n) {
		f.columns.drop(n)
	}
}

func (f *family) newRow(key string) int32 {
	n, more := f.add(key)
	if more {
		f.grow(&f.rule)
	}
	return n
}

// finish computes the merged values, after which the family is only read until the next scrape.
func (f *family) finish() {
	f.arrange()
	f.recomputeCreated()
	f.finishExemplars()
	f.counters.Totals(f.values)
	for i := range f.gauges {
		f.values[i] = f.gauges[i].Value()
	}
	f.finishNative()
	f.finishSketches()
}
