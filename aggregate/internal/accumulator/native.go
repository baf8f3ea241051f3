package accumulator

import (
	"math"
	"slices"

	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/nativehist"
)

// Native adds up the histograms with native buckets of one series. Its native buckets are at the coarsest schema and the
// widest zero bucket of all that were added.
type Native struct {
	Finite  Histogram // the classic buckets but the one up to +Inf
	Buckets *nativehist.Counts
}

// AddCells adds the cells of a process's native histogram, of any resolution.
func (n *Native) AddCells(def *shmstore.Family, _ *origin.Origin, cells []uint64) bool {
	c, _ := TakeNative(def, def.AppendNative(slices.Clone(cells[:def.NativeCells()]), cells))
	if !c.Possible() {
		return false
	}
	n.Finite.Sum.Add(c.Sum)
	addCounts(n.Finite.Counts, c.Finite)
	c.AddTo(n.Buckets)
	return true
}

// AppendWords appends the counts of the classic buckets but that up to +Inf; the sum; and of the native buckets one more than
// the number of the words of buckets, how many NaNs, by how much the schema is above the least, the zero threshold, 1 if
// thresholds differed, and for each bucket its code and count. Without native buckets all that is one 0.
func (n *Native) AppendWords(w []uint64) []uint64 {
	w = n.Finite.AppendWords(w)
	c := n.Buckets
	if !c.Some {
		return append(w, 0)
	}
	w = append(w, uint64(1+2*len(c.Buckets)), c.NaNs, uint64(c.Schema-nativehist.MinSchema), math.Float64bits(c.Threshold),
		flag(c.Mixed))
	for _, code := range c.Codes() {
		w = append(w, uint64(code), c.Buckets[code])
	}
	return w
}

func (n *Native) read(r *wordReader, thisBoot bool) {
	n.Finite.read(r, thisBoot)
	c := n.Buckets
	words := r.next()
	if words == 0 {
		return
	}
	c.NaNs = r.next()
	schema, threshold, mixed := r.next(), math.Float64frombits(r.next()), r.next() != 0
	if schema > nativehist.MaxSchema-nativehist.MinSchema || !(threshold >= 0 && threshold <= math.MaxFloat64) ||
		words%2 == 0 || words-1 > uint64(len(r.w)) {
		r.bad = true
		return
	}
	c.Begin(nativehist.MinSchema+int(schema), threshold, mixed)
	for range words / 2 {
		code := nativehist.Code(min(r.next(), math.MaxUint32))
		r.bad = r.bad || !code.Valid(c.Schema)
		c.Add(code, r.next())
	}
}

// NativeCells is a copy of the cells of one native histogram.
type NativeCells struct {
	Sum       float64
	Finite    []uint64 // counts of the classic buckets but the last
	nans      uint64
	schema    int
	threshold float64
	slots     []uint64
	ok        bool // the native part could be read
}

// TakeNative takes the cells of one series off buf: first the classic ones, then what shmstore.Family.AppendNative appends.
func TakeNative(def *shmstore.Family, buf []uint64) (c NativeCells, rest []uint64) {
	at := def.NativeCells()
	c.Sum = math.Float64frombits(buf[shmstore.HistogramSum])
	c.Finite, c.nans = buf[shmstore.HistogramBuckets:at-1], buf[at-1]
	buf = buf[at:]
	c.ok = buf[0] != shmstore.NativeUnreadable
	c.schema, c.threshold = nativehist.MinSchema+int(buf[0]), math.Float64frombits(buf[1])
	c.slots, buf = buf[3:3+buf[2]], buf[3+buf[2]:]
	return c, buf
}

// Possible reports whether a process can have written the cells.
func (c *NativeCells) Possible() bool {
	return c.ok && Possible(c.Finite) && c.nans < TooLarge && !slices.ContainsFunc(c.slots, func(word uint64) bool {
		code, _ := shmstore.Slot(word)
		return !code.Valid(c.schema)
	})
}

// AddTo adds the native buckets, which must be possible, to others.
func (c *NativeCells) AddTo(to *nativehist.Counts) {
	to.NaNs = AddSaturated(to.NaNs, c.nans)
	steps := to.Begin(c.schema, c.threshold, false)
	for _, word := range c.slots {
		code, n := shmstore.Slot(word)
		to.Add(code.Coarser(steps), n)
	}
}
