package aggregate

import (
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// rowIndex has the rows of a family and finds them. Rows stay from scrape to scrape as long as an origin has them.
type rowIndex struct {
	index map[string]int32 // rows by identity
	rows  []row
	free  []int32
	gone  []int32  // without entries since the last pass; free when this one ends, unless they have some again
	order []int32  // rows as they are exposed
	texts []string // theirs, in that order
	text  int      // bytes of texts
	fresh []int32  // rows that order lacks

	unsorted     bool   // labels of rows in order changed
	arranged     uint64 // how often order, or what is in it, changed
	createdStale int    // rows that have fewer sources than their created time was made of
}

// row is an exposed series, as far as it stays the same from scrape to scrape.
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

// find returns the row with a key. Processes of one program make their series in much the same order, so the one behind
// the row that was found last is looked at first.
func (x *rowIndex) find(guess int32, key []byte) (n int32, ok bool) {
	if int(guess) < len(x.rows) && x.rows[guess].refs > 0 && x.rows[guess].key == string(key) {
		return guess, true
	}
	n, ok = x.index[string(key)]
	return n, ok
}

// release takes one reference to a row away and reports whether that was the last. A row without any stays until the pass
// ends, in which others may have the series, as after a rollout.
func (x *rowIndex) release(n int32) (last bool) {
	r := &x.rows[n]
	if r.refs--; r.refs > 0 {
		x.setCreatedStale(r, true)
		return false
	}
	x.setCreatedStale(r, false)
	r.created = 0
	if !r.gone {
		r.gone = true
		x.gone = append(x.gone, n)
	}
	return true
}

// setCreatedStale notes whether a row has lost a source that its created time was made of.
func (x *rowIndex) setCreatedStale(r *row, stale bool) {
	if stale == r.createdStale {
		return
	}
	if r.createdStale = stale; stale {
		x.createdStale++
	} else {
		x.createdStale--
	}
}

// clean frees the rows that have gone and did not come back.
func (x *rowIndex) clean() {
	for _, n := range x.gone {
		r := &x.rows[n]
		r.gone = false
		if r.refs == 0 {
			delete(x.index, r.key)
			*r = row{}
			x.free = append(x.free, n)
		}
	}
	x.gone = x.gone[:0]
}

// had reports whether the last pass had a row with this key.
func (x *rowIndex) had(key []byte) bool {
	n, ok := x.index[string(key)]
	return ok && !slices.Contains(x.fresh, n)
}

// add makes a row and reports whether there is one more than ever.
func (x *rowIndex) add(key string) (n int32, more bool) {
	if last := len(x.free) - 1; last >= 0 {
		n, x.free = x.free[last], x.free[:last]
	} else {
		n, more = int32(len(x.rows)), true
		x.rows = append(x.rows, row{})
	}
	x.rows[n].key = key
	x.index[key] = n
	x.fresh = append(x.fresh, n)
	return n, more
}

// arrange brings order up to date.
func (x *rowIndex) arrange() {
	over := func(n int32) bool { return x.rows[n].refs == 0 }
	if slices.ContainsFunc(x.gone, over) {
		x.order, x.fresh = slices.DeleteFunc(x.order, over), slices.DeleteFunc(x.fresh, over)
	} else if len(x.fresh) == 0 && !x.unsorted {
		x.clean()
		return
	}
	x.clean()
	x.arranged++
	compare := func(a, b int32) int { return compareLabels(x.rows[a].labels, x.rows[b].labels) }
	if x.unsorted {
		x.order, x.fresh, x.unsorted = nil, append(x.order, x.fresh...), false
	}
	slices.SortFunc(x.fresh, compare)
	order := x.order
	if len(order) > 0 && len(x.fresh) > 0 {
		order = make([]int32, 0, len(x.order)+len(x.fresh))
		for i, n := range x.order {
			for len(x.fresh) > 0 && compare(x.fresh[0], n) < 0 {
				order, x.fresh = append(order, x.fresh[0]), x.fresh[1:]
			}
			order = append(order, x.order[i])
		}
	}
	x.order, x.fresh = append(order, x.fresh...), nil
	x.layOut()
}

// layOut puts the rows' texts one behind the other as they are exposed, which is how they are quick to copy.
func (x *rowIndex) layOut() {
	n := 0
	for _, row := range x.order {
		n += len(x.rows[row].text)
	}
	x.text = n
	var all strings.Builder
	all.Grow(n)
	x.texts = slices.Grow(x.texts[:0], len(x.order))
	for _, row := range x.order {
		r := &x.rows[row]
		at := all.Len()
		all.WriteString(r.text)
		r.text = all.String()[at:]
		x.texts = append(x.texts, r.text)
	}
}
