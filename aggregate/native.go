package aggregate

import (
	"cmp"
	"math"
	"slices"
	"sort"

	dto "github.com/prometheus/client_model/go"

	"github.com/onescrape/onescrape/aggregate/internal/accumulator"
	"github.com/onescrape/onescrape/shmstore/nativehist"
)

// Native buckets of one series add up at the coarsest schema and the widest zero bucket among all that have it, the dead
// and the archived ones included, so neither ever becomes finer again.
//
// Where the definitions of a family do not all have them, what one counts is carried over to the form of the one that rules:
// what is in a bucket counts in the smallest of the new form that holds all of it, or holds its upper bound. So the count
// stays exact and equals the sum of all native buckets (and NaNs) in every scrape, as Prometheus demands.

func (d *contribution) addNatives(list *entries, c *cells, mark presence) (bad int) {
	f := d.family
	n, classic := d.def.Words(), d.def.NativeCells()
	own := &nativehist.Counts{}
	direct := f.rule.Native != nil && !d.withoutBounds()
	for e := range list.each {
		cells := c.words[e.cell : int(e.cell)+n : int(e.cell)+n]
		c.buf = appendCells(c.buf[:0], cells[:classic])
		// After the classic ones, which a process writes later: so these never have more.
		c.buf = d.def.AppendNative(c.buf, cells)
		h, _ := accumulator.TakeNative(&d.def, c.buf)
		if !h.Possible() {
			bad++
			f.presence[e.row] |= mark &^ counted
			continue
		}
		f.presence[e.row] |= mark
		f.sums[e.row].Add(h.Sum)
		if direct {
			h.AddTo(&f.natives[e.row])
			d.addFinite(e.row, h.Finite)
			continue
		}
		own.Reset()
		h.AddTo(own)
		d.addNative(e.row, h.Finite, own)
	}
	return bad
}

// withoutBounds reports whether the classic buckets of the family must be filled from native ones: the contribution has none.
func (d *contribution) withoutBounds() bool {
	return len(d.def.Bounds) == 0 && len(d.family.rule.Bounds) > 0
}

// addFinite adds classic buckets below +Inf of a native histogram and returns how many observations they are.
func (d *contribution) addFinite(row int32, finite []uint64) (total uint64) {
	width := len(d.family.rule.Bounds) + 1
	buckets := d.family.buckets[int(row)*width:][:width]
	for j, n := range finite {
		if d.carry != nil {
			j = int(d.carry[j])
		}
		buckets[j] = accumulator.AddSaturated(buckets[j], n)
		total = accumulator.AddSaturated(total, n)
	}
	return total
}

// addNative adds a native histogram to a row, in whatever form that has.
func (d *contribution) addNative(row int32, finite []uint64, counts *nativehist.Counts) {
	f := d.family
	width := len(f.rule.Bounds) + 1
	buckets := f.buckets[int(row)*width:][:width]
	var placed uint64
	if d.withoutBounds() {
		counts.Each(func(upper float64, n uint64) {
			j := sort.SearchFloat64s(f.rule.Bounds, upper)
			buckets[j] = accumulator.AddSaturated(buckets[j], n)
			placed = accumulator.AddSaturated(placed, n)
		})
	} else {
		placed = d.addFinite(row, finite)
	}
	if f.rule.Native != nil {
		f.natives[row].AddCounts(counts)
	} else if total := counts.Total(); total > placed {
		buckets[width-1] = accumulator.AddSaturated(buckets[width-1], total-placed)
	}
}

// addClassic adds what the buckets of a classic histogram count to the native ones of a row.
func (d *contribution) addClassic(row int32, bucket int, n uint64) {
	upper := math.Inf(1)
	if bucket < len(d.def.Bounds) {
		upper = d.def.Bounds[bucket]
	}
	d.family.natives[row].AddUpTo(upper, n)
}

// finishNative makes the classic buckets of each row those of the same observations as the native ones: the bucket up to
// +Inf has what no other one has.
func (f *family) finishNative() {
	width := len(f.rule.Bounds) + 1
	for i := range f.natives {
		buckets := f.buckets[i*width:][:width]
		var finite uint64
		for _, n := range buckets[:width-1] {
			finite = accumulator.AddSaturated(finite, n)
		}
		buckets[width-1] = 0
		if total := f.natives[i].Total(); total > finite {
			buckets[width-1] = total - finite
		}
	}
}

// nativeExemplars returns the exemplars of a row in the form of native histograms, which has no buckets for them: by value.
func (f *family) nativeExemplars(n int32) (all []*dto.Exemplar) {
	for _, h := range f.exemplarsOf(n) {
		if h.out != nil {
			all = append(all, h.out)
		}
	}
	slices.SortStableFunc(all, func(a, b *dto.Exemplar) int { return cmp.Compare(a.GetValue(), b.GetValue()) })
	return all
}
