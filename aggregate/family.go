package aggregate

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"

	"github.com/onescrape/onescrape/aggregate/internal/accumulator"
	"github.com/onescrape/onescrape/aggregate/internal/exactsum"
	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/nativehist"
	"github.com/onescrape/onescrape/shmstore/quantile"
)

// family is what is exposed under one name: its rows are the series that come out, and each origin's series of it add
// into one of them. Rows stay from scrape to scrape as long as an origin has them.
type family struct {
	name  string
	label string // of the slots, where the mode is All

	contributions []*contribution        // all of this name, whatever they say
	rule          shmstore.Family        // the definition that counts
	dirty         bool                   // contributions, or their origins' ranks, changed since it was chosen
	conflict      map[string]bool        // keys of the definitions that are left out
	shadowed      bool                   // left out, because another family's samples would have its name
	slotOwners    map[int]*origin.Origin // in the modes all and liveall, whose gauges each slot shows; else nil

	templates [syntaxes]*lineTemplate // nil where the rule is newer

	index map[string]int32 // rows by identity
	rows  []row
	free  []int32
	gone  []int32  // without entries since the last pass; free when this one ends, unless they have some again
	order []int32  // rows as they are exposed
	texts []string // theirs, in that order
	text  int      // bytes of texts
	fresh []int32  // rows that order lacks

	unsorted     bool // labels of rows in order changed
	createdStale int  // rows that have fewer sources than their created time was made of

	// By row, and anew for each scrape; which of them there are depends on the type.
	presence   []presence
	marked     span // of presence, the last time
	markedWith presence
	counters   accumulator.CounterColumn
	gauges     []accumulator.Gauge
	sums       []exactsum.Sum
	natives    []nativehist.Counts // of a histogram with native buckets
	buckets    []uint64            // of a histogram len(rule.Bounds)+1 a row, of a summary one
	values     []float64

	arranged uint64                    // how often order, or what is in it, changed
	lines    *family                   // of a summary: what its sources have computed; nil: nothing
	linesOf  uint64                    // when lineRows were found in lines
	lineRows map[string][]quantileLine // by the keys of rows

	exemplars [][]exemplarCell   // by row, then by bucket; shorter than rows or nil where there are none
	sketches  []*quantile.Sketch // by row, of a summary with quantiles; shorter than rows, and nil, where there are none
	computed  []float64          // of the sketches: len(rule.Window.Objectives) a row
}

// row is what stays of a series that is exposed.
type row struct {
	key          string   // its identity, by which index finds it
	refs         int32    // entries of the plan that add into it
	gone         bool     // it is in gone
	createdStale bool     // it has lost a source, and kept others
	names        []string // of labels
	values       *string  // the first label value of the series that made it, see sameSeries
	hash         uint64   // of the identity of that series
	labels       []*dto.LabelPair
	text         string // the same, see labelsText
	created      int64  // when the first of its sources was created, nanoseconds; 0: unknown
}

func newFamily(name, label string) *family {
	return &family{name: name, label: label, dirty: true, conflict: map[string]bool{}, index: map[string]int32{}}
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
	*f = family{name: f.name, label: f.label, contributions: f.contributions, rule: f.rule, conflict: f.conflict, shadowed: f.shadowed,
		index: map[string]int32{}, arranged: f.arranged + 1}
}

// sameSeries tells whether row n was made of a series that has the same label values in the same memory, as those of
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
		f.fresh = append(f.fresh, n)
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

// find returns the row with a key. Processes of one program make their series in much the same order, so the one behind
// the row that was found last is looked at first.
func (f *family) find(guess int32, key []byte) (n int32, ok bool) {
	if int(guess) < len(f.rows) && f.rows[guess].refs > 0 && f.rows[guess].key == string(key) {
		return guess, true
	}
	n, ok = f.index[string(key)]
	return n, ok
}

// drop takes one reference to a row away. A row without any stays until the pass ends, in which others may have the series,
// as after a rollout.
func (f *family) drop(n int32) {
	r := &f.rows[n]
	if r.refs--; r.refs > 0 {
		f.setCreatedStale(r, true)
		return
	}
	f.setCreatedStale(r, false)
	r.created = 0
	if int(n) < len(f.sketches) {
		f.sketches[n] = nil
	}
	f.presence[n] = 0
	f.dropExemplars(n)
	if !r.gone {
		r.gone = true
		f.gone = append(f.gone, n)
	}
}

// setCreatedStale notes whether a row has lost a source that its created time was made of.
func (f *family) setCreatedStale(r *row, stale bool) {
	if stale == r.createdStale {
		return
	}
	if r.createdStale = stale; stale {
		f.createdStale++
	} else {
		f.createdStale--
	}
}

// clean frees the rows that have gone and did not come back.
func (f *family) clean() {
	for _, n := range f.gone {
		r := &f.rows[n]
		r.gone = false
		if r.refs == 0 {
			delete(f.index, r.key)
			*r = row{}
			f.free = append(f.free, n)
		}
	}
	f.gone = f.gone[:0]
}

// had reports whether the last pass had a row with this key.
func (f *family) had(key []byte) bool {
	n, ok := f.index[string(key)]
	return ok && !slices.Contains(f.fresh, n)
}

func (f *family) newRow(key string) int32 {
	var n int32
	if last := len(f.free) - 1; last >= 0 {
		n, f.free = f.free[last], f.free[:last]
	} else {
		n = int32(len(f.rows))
		f.rows = append(f.rows, row{})
		f.presence = append(f.presence, 0)
		switch f.rule.Type {
		case shmstore.CounterType:
			f.counters.Grow()
			f.values = append(f.values, 0)
		case shmstore.HistogramType:
			f.sums = append(f.sums, exactsum.Sum{})
			f.buckets = append(f.buckets, make([]uint64, len(f.rule.Bounds)+1)...)
			if f.rule.Native != nil {
				f.natives = append(f.natives, nativehist.Counts{})
			}
		case shmstore.SummaryType:
			f.sums = append(f.sums, exactsum.Sum{})
			f.buckets = append(f.buckets, 0)
		default:
			f.gauges = append(f.gauges, accumulator.Gauge{Mode: f.rule.Mode.Base()})
			f.values = append(f.values, 0)
		}
	}
	f.rows[n].key = key
	f.index[key] = n
	return n
}

// begin empties the rows for another scrape.
func (f *family) begin() {
	clear(f.presence)
	f.marked = span{}
	clear(f.buckets)
	f.beginExemplars()
	f.beginSketches()
	f.counters.Reset()
	for i := range f.gauges {
		f.gauges[i].Reset()
	}
	for i := range f.sums {
		f.sums[i].Reset()
	}
	for i := range f.natives {
		f.natives[i].Reset()
	}
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

// arrange brings order up to date.
func (f *family) arrange() {
	over := func(n int32) bool { return f.rows[n].refs == 0 }
	if slices.ContainsFunc(f.gone, over) {
		f.order, f.fresh = slices.DeleteFunc(f.order, over), slices.DeleteFunc(f.fresh, over)
	} else if len(f.fresh) == 0 && !f.unsorted {
		f.clean()
		return
	}
	f.clean()
	f.arranged++
	compare := func(a, b int32) int { return compareLabels(f.rows[a].labels, f.rows[b].labels) }
	if f.unsorted {
		f.order, f.fresh, f.unsorted = nil, append(f.order, f.fresh...), false
	}
	slices.SortFunc(f.fresh, compare)
	order := f.order
	if len(order) > 0 && len(f.fresh) > 0 {
		order = make([]int32, 0, len(f.order)+len(f.fresh))
		for i, n := range f.order {
			for len(f.fresh) > 0 && compare(f.fresh[0], n) < 0 {
				order, f.fresh = append(order, f.fresh[0]), f.fresh[1:]
			}
			order = append(order, f.order[i])
		}
	}
	f.order, f.fresh = append(order, f.fresh...), nil
	f.layOut()
}

// layOut puts the rows' texts one behind the other as they are exposed, which is how they are quick to copy.
func (f *family) layOut() {
	n := 0
	for _, row := range f.order {
		n += len(f.rows[row].text)
	}
	f.text = n
	var all strings.Builder
	all.Grow(n)
	f.texts = slices.Grow(f.texts[:0], len(f.order))
	for _, row := range f.order {
		r := &f.rows[row]
		at := all.Len()
		all.WriteString(r.text)
		r.text = all.String()[at:]
		f.texts = append(f.texts, r.text)
	}
}

// visible reports whether a row is exposed. One of which every value was refused is not: it would fall to 0.
func (f *family) visible(n int32) bool {
	p := f.presence[n]
	return p&counted != 0 && p.visible()
}

// withSlot adds the label that tells slots apart, in its place. A label of that name that the metric has itself keeps it.
func withSlot(names, values []string, label, slot string) (allNames, allValues []string) {
	i, taken := slices.BinarySearch(names, label)
	for taken {
		label = "onescrape_" + label
		i, taken = slices.BinarySearch(names, label)
	}
	return slices.Insert(slices.Clone(names), i, label), slices.Insert(slices.Clone(values), i, slot)
}

// identity appends a key that two label sets share exactly when Prometheus takes them for the same: a label with an
// empty value is no label.
func identity(b []byte, names, values []string) []byte {
	for i, v := range values {
		if v != "" {
			b = append(binary.AppendUvarint(b, uint64(len(names[i]))), names[i]...)
			b = append(binary.AppendUvarint(b, uint64(len(v))), v...)
		}
	}
	return b
}

// moreLabels tells whether names are to replace the labels of a row that differ from them in empty ones only. The
// longer list wins, then the lesser, so that every scraper exposes the same.
func moreLabels(names, old []string) bool {
	if len(names) != len(old) {
		return len(names) > len(old)
	}
	if len(names) == 0 || &names[0] == &old[0] {
		return false // most are shared, see addContribution
	}
	return slices.Compare(names, old) < 0
}

// labelPairs makes labels that every scrape's result shares; the capacity keeps who appends to it from writing here.
func labelPairs(names, values []string) []*dto.LabelPair {
	pairs := make([]*dto.LabelPair, len(names))
	for i := range names {
		pairs[i] = &dto.LabelPair{Name: new(names[i]), Value: new(strings.Clone(values[i]))}
	}
	return pairs
}

// compareLabels is the order in which client_golang's registry returns the metrics of a family, made total.
func compareLabels(a, b []*dto.LabelPair) int {
	if c := cmp.Compare(len(a), len(b)); c != 0 {
		return c
	}
	for i := range a {
		if c := strings.Compare(a[i].GetValue(), b[i].GetValue()); c != 0 {
			return c
		}
	}
	for i := range a {
		if c := strings.Compare(a[i].GetName(), b[i].GetName()); c != 0 {
			return c
		}
	}
	return 0
}
