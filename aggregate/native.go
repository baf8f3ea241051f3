package aggregate

import (
	"cmp"
	"math"
	"slices"
	"sort"

	dto "github.com/prometheus/client_model/go"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/nativehist"
)

// Native buckets of one series add up at the coarsest schema and the widest zero bucket among all that have it, the dead
// and the archived ones included, so neither ever becomes finer again.
//
// Where the definitions of a family do not all have them, what one counts is carried over to the form of the one that rules:
// what is in a bucket counts in the smallest of the new form that holds all of it, or holds its upper bound. So the count
// stays exact and equals the sum of all native buckets (and NaNs) in every scrape, as Prometheus demands.

// loadNative appends the cells of native histograms to buf: the classic ones and what shmstore.Family.AppendNative says.
func (d *decl) loadNative(list entries, words, buf []uint64) []uint64 {
	n, classic := d.def.Words(), d.def.NativeCells()
	for e := range list.each {
		cells := words[e.cell : int(e.cell)+n : int(e.cell)+n]
		buf = appendCells(buf, cells[:classic])
		// After the classic ones, which a process writes later: so these never have more.
		buf = d.def.AppendNative(buf, cells)
	}
	return buf
}

// nativeCells is one series' cells as loadNative has copied them.
type nativeCells struct {
	sum       float64
	finite    []uint64 // counts of the classic buckets but the last
	nans      uint64
	schema    int
	threshold float64
	slots     []uint64
	ok        bool // the native part could be read
}

// takeNative takes the cells of one series off buf.
func takeNative(def *shmstore.Family, buf []uint64) (c nativeCells, rest []uint64) {
	at := def.NativeCells()
	c.sum = math.Float64frombits(buf[shmstore.HistogramSum])
	c.finite, c.nans = buf[shmstore.HistogramBuckets:at-1], buf[at-1]
	buf = buf[at:]
	c.ok = buf[0] != shmstore.NativeUnreadable
	c.schema, c.threshold = nativehist.MinSchema+int(buf[0]), math.Float64frombits(buf[1])
	c.slots, buf = buf[3:3+buf[2]], buf[3+buf[2]:]
	return c, buf
}

// possible reports whether the cells are such that a process can have written them.
func (c *nativeCells) possible() bool {
	return c.ok && possible(c.finite) && c.nans < tooLarge && !slices.ContainsFunc(c.slots, func(word uint64) bool {
		code, _ := shmstore.Slot(word)
		return !code.Valid(c.schema)
	})
}

// addTo adds the observations, which must be possible, to sums.
func (c *nativeCells) addTo(to *nativehist.Counts) {
	to.NaNs = addSaturated(to.NaNs, c.nans)
	steps := to.Begin(c.schema, c.threshold, false)
	for _, word := range c.slots {
		code, n := shmstore.Slot(word)
		to.Add(code.Coarser(steps), n)
	}
}

func (d *decl) mergeNative(buf []uint64) (rest []uint64, bad int) {
	f := d.family
	marks := d.presence()
	own := &nativehist.Counts{}
	direct := f.rule.Native != nil && !d.withoutBounds()
	for i, list := range [2]entries{d.hidden, d.shown} {
		for e := range list.each {
			var c nativeCells
			c, buf = takeNative(&d.def, buf)
			if !c.possible() {
				bad++
				f.presence[e.row] |= marks[i] &^ counted
				continue
			}
			f.presence[e.row] |= marks[i]
			f.sums[e.row].Add(c.sum)
			if direct {
				c.addTo(&f.natives[e.row])
				d.addFinite(e.row, c.finite)
				continue
			}
			own.Reset()
			c.addTo(own)
			d.addNative(e.row, c.finite, own)
		}
	}
	return buf, bad
}

// withoutBounds tells whether the native buckets have to stand in for classic ones.
func (d *decl) withoutBounds() bool { return len(d.def.Bounds) == 0 && len(d.family.rule.Bounds) > 0 }

// addFinite adds classic buckets below +Inf of a native histogram and returns how many observations they are.
func (d *decl) addFinite(row int32, finite []uint64) (total uint64) {
	width := len(d.family.rule.Bounds) + 1
	buckets := d.family.buckets[int(row)*width:][:width]
	for j, n := range finite {
		if d.carry != nil {
			j = int(d.carry[j])
		}
		buckets[j] = addSaturated(buckets[j], n)
		total = addSaturated(total, n)
	}
	return total
}

// addNative adds a native histogram to a row, in whatever form that has.
func (d *decl) addNative(row int32, finite []uint64, counts *nativehist.Counts) {
	f := d.family
	width := len(f.rule.Bounds) + 1
	buckets := f.buckets[int(row)*width:][:width]
	var placed uint64
	if d.withoutBounds() {
		counts.Each(func(upper float64, n uint64) {
			j := sort.SearchFloat64s(f.rule.Bounds, upper)
			buckets[j] = addSaturated(buckets[j], n)
			placed = addSaturated(placed, n)
		})
	} else {
		placed = d.addFinite(row, finite)
	}
	if f.rule.Native != nil {
		f.natives[row].AddCounts(counts)
	} else if total := counts.Total(); total > placed {
		buckets[width-1] = addSaturated(buckets[width-1], total-placed)
	}
}

// addClassic adds what the buckets of a classic histogram count to the native ones of a row.
func (d *decl) addClassic(row int32, bucket int, n uint64) {
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
			finite = addSaturated(finite, n)
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

// addNativeCells adds the cells of a native histogram of a dead process, see part.addCells.
func (p *part) addNativeCells(def *shmstore.Family, cells []uint64) bool {
	c, _ := takeNative(def, def.AppendNative(slices.Clone(cells[:def.NativeCells()]), cells))
	if !c.possible() {
		return false
	}
	p.sum.Add(c.sum)
	p.addCounts(c.finite)
	c.addTo(p.native)
	return true
}

// appendNative appends the words that an archive has of native buckets.
func appendNative(w []uint64, c *nativehist.Counts) []uint64 {
	if !c.Some {
		return append(w, 0)
	}
	mixed := uint64(0)
	if c.Mixed {
		mixed = 1
	}
	w = append(w, uint64(1+2*len(c.Buckets)), c.NaNs, uint64(c.Schema-nativehist.MinSchema), math.Float64bits(c.Threshold), mixed)
	for _, code := range c.Codes() {
		w = append(w, uint64(code), c.Buckets[code])
	}
	return w
}

// native is the inverse of appendNative.
func (r *wordReader) native() *nativehist.Counts {
	c := &nativehist.Counts{}
	n := r.next()
	if n == 0 {
		return c
	}
	c.NaNs = r.next()
	schema, threshold, mixed := r.next(), math.Float64frombits(r.next()), r.next() != 0
	if schema > nativehist.MaxSchema-nativehist.MinSchema || !(threshold >= 0 && threshold <= math.MaxFloat64) || n%2 == 0 ||
		n-1 > uint64(len(r.w)) {
		r.bad = true
		return c
	}
	c.Begin(nativehist.MinSchema+int(schema), threshold, mixed)
	for range n / 2 {
		code := nativehist.Code(min(r.next(), math.MaxUint32))
		r.bad = r.bad || !code.Valid(c.Schema)
		c.Add(code, r.next())
	}
	return c
}
