package worker

import (
	"math"
	"runtime"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/nativehist"
)

// defaultNativeBuckets stands for a NativeHistogramMaxBucketNumber of 0, which is no limit in client_golang: at a factor of
// 1.1 they span 12 decimal orders of magnitude.
const defaultNativeBuckets = 320

// nativeOptions returns the native buckets that opts ask for; nil when they ask for none.
func nativeOptions(opts prometheus.HistogramOpts) *shmstore.Native {
	if !(opts.NativeHistogramBucketFactor > 1) {
		return nil
	}
	finite := func(v float64) float64 {
		if v > 0 {
			return min(v, math.MaxFloat64)
		}
		return 0
	}
	n := &shmstore.Native{
		Schema:           nativehist.Schema(opts.NativeHistogramBucketFactor),
		Buckets:          int(min(opts.NativeHistogramMaxBucketNumber, shmstore.MaxNativeBuckets)),
		ZeroThreshold:    finite(opts.NativeHistogramZeroThreshold),
		MaxZeroThreshold: finite(opts.NativeHistogramMaxZeroThreshold),
	}
	if n.Buckets == 0 {
		n.Buckets = defaultNativeBuckets
	}
	if opts.NativeHistogramZeroThreshold == 0 {
		n.ZeroThreshold = prometheus.DefNativeHistogramZeroThreshold
	}
	return n
}

// nativeTable is the native buckets of one series at one resolution: slots in the series' cells, where a search begins at the
// place that the bucket's code says and goes on from slot to slot. Counting changes one word, by compare-and-swap, because a
// word that got the mark must never change again. Everything else here never changes: another resolution is another table.
type nativeTable struct {
	slots     []uint64 // a power of two
	shift     uint     // by how much the schema is below the finest
	threshold float64
	halvings  uint64 // since the series was new
	widened   uint64 // the cell that has the threshold's bits; 0: it is the definition's
	limit     int64
	free      uint64 // what a free slot is

	used atomic.Int64 // slots that are not free, the zero bucket's not counted
}

func (n *nativeTable) schema() int { return nativehist.MaxSchema - int(n.shift) }

// addition is what became of an observation.
type addition int

const (
	counted addition = iota
	crowded          // counted, in a bucket that is one too many
	refused          // the table is being replaced, or full
)

// code returns the bucket of v, which is no NaN.
func (n *nativeTable) code(v float64) nativehist.Code {
	if math.Abs(v) <= n.threshold {
		return nativehist.Zero
	}
	return nativehist.Of(v, n.shift)
}

// home returns where the search for a bucket begins: buckets side by side have slots side by side, those of negative values
// half a table away from those of positive ones.
func (n *nativeTable) home(code nativehist.Code) uint {
	h := uint(code)
	if code.Negative() {
		h += uint(len(n.slots)) / 2
	}
	return h
}

// add counts one observation. It may be called at any time by any number of goroutines.
func (n *nativeTable) add(code nativehist.Code) addition {
	slots := n.slots
	tag := n.tag(code)
	i := n.home(code)
	for range slots {
		slot := &slots[i&uint(len(slots)-1)]
		old := atomic.LoadUint64(slot)
		for old>>tagShift == tag {
			if atomic.CompareAndSwapUint64(slot, old, old+1) {
				return counted
			}
			old = atomic.LoadUint64(slot)
		}
		if old == n.free {
			if atomic.CompareAndSwapUint64(slot, old, tag<<tagShift|1) {
				if code != nativehist.Zero && n.used.Add(1) > n.limit {
					return crowded
				}
				return counted
			}
			continue // the same slot again: it may have become this bucket's
		}
		if old>>tagShift == 0 || old >= shmstore.SlotMark { // free in another table, or marked
			return refused
		}
		i++
	}
	return refused
}

// tagShift is where in a slot the bit begins that says that it is full.
const tagShift = shmstore.SlotBits - 1

// tag returns what is above the count in a bucket's slot that is neither full nor marked.
func (n *nativeTable) tag(code nativehist.Code) uint64 {
	return (n.halvings<<nativehist.CodeBits | uint64(code)) << 1
}

// put takes over count observations. Only one goroutine puts, but add may count in the same slots meanwhile: a writer that
// was stopped in the midst of add wakes two tables later, in the same cells, where its bucket has the same tag when the
// resolution did not change. So put changes a slot as add does.
func (n *nativeTable) put(code nativehist.Code, count uint64) {
	const most = 1<<shmstore.SlotBits - 1
	for i := n.home(code); count > 0; {
		slot := &n.slots[i&uint(len(n.slots)-1)]
		old := atomic.LoadUint64(slot)
		taken := old
		switch {
		case old == n.free:
			taken = n.tag(code) << tagShift
		case old>>tagShift != n.tag(code):
			i++
			continue
		}
		now := min(count, most-taken&most)
		if !atomic.CompareAndSwapUint64(slot, old, taken+now) {
			continue // the same slot again
		}
		if old == n.free && code != nativehist.Zero {
			n.used.Add(1)
		}
		count -= now
		i++
	}
}

// Observe of a histogram that has native buckets. These come before the classic ones, which a reader reads before: so it
// never sees an observation in these alone.
func (h *Histogram) observeNative(n *nativeTable, v float64) {
	p := h.cells.Load()
	sum := word(p, shmstore.HistogramSum)
	old := atomic.LoadUint64(sum)
	if v != v {
		i := shmstore.HistogramBuckets + len(h.bounds)
		if atomic.AddUint64(word(p, i), 1) >= integerMark {
			h.addIntegerMarked(i, 1)
		}
	} else if a := n.add(n.code(v)); a != counted {
		h.observeSlow(a, v)
	}
	if last := len(h.bounds) - 1; last >= 0 && v <= h.bounds[last] {
		i := shmstore.HistogramBuckets + h.bucket(v)
		if atomic.AddUint64(word(p, i), 1) >= integerMark {
			h.addIntegerMarked(i, 1)
		}
	}
	if old == floatMark || !atomic.CompareAndSwapUint64(sum, old, math.Float64bits(math.Float64frombits(old)+v)) {
		h.addFloat(p, shmstore.HistogramSum, v)
	}
	runtime.KeepAlive(h)
}

// observeSlow makes room for the bucket that was one too many, or counts what was refused.
//
//go:noinline
func (h *Histogram) observeSlow(a addition, v float64) {
	r := h.def.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	for a == refused {
		// Nobody replaces the table while we have the lock, so it is full at worst.
		n := h.table.Load()
		if a = n.add(n.code(v)); a == refused {
			h.limitNative()
		}
	}
	if a == crowded {
		h.limitNative()
	}
}

// limitNative brings the number of buckets down to the limit as client_golang does, except that it never resets: it widens the
// zero bucket as far as the definition allows, then halves the resolution. Where the lowest one is not enough, the zero bucket
// is widened further when the table is nearly full. The caller holds the registry's lock.
func (h *Histogram) limitNative() {
	limit := h.def.family.Native.MaxZeroThreshold
	for {
		n := h.table.Load()
		nearest, used := n.nearest()
		if used <= int(n.limit) {
			return
		}
		wider := nativehist.Upper(nearest, n.schema())
		switch full := used > len(n.slots)*7/8; {
		case n.threshold < limit && wider <= limit:
			h.widenNative(n, nearest, wider)
		case n.schema() > nativehist.MinSchema:
			h.halveNative(n)
		case full && wider <= math.MaxFloat64:
			h.widenNative(n, nearest, wider)
		default:
			return
		}
	}
}

// nearest returns the number of the bucket that is nearest to zero, and how many slots are taken by buckets.
func (n *nativeTable) nearest() (number, used int) {
	number = math.MaxInt
	for i := range n.slots {
		if code, _ := shmstore.Slot(atomic.LoadUint64(&n.slots[i])); code > nativehist.Zero {
			number = min(number, code.Bucket())
			used++
		}
	}
	return number, used
}

func (h *Histogram) widenNative(n *nativeTable, nearest int, threshold float64) {
	h.replaceNative(n, &nativeTable{
		shift: n.shift, threshold: threshold, halvings: n.halvings, widened: math.Float64bits(threshold),
	}, func(code nativehist.Code) nativehist.Code {
		if code.Bucket() <= nearest {
			return nativehist.Zero
		}
		return code
	})
}

func (h *Histogram) halveNative(n *nativeTable) {
	h.replaceNative(n, &nativeTable{
		shift: n.shift + 1, threshold: n.threshold, halvings: n.halvings + 1, widened: n.widened,
	}, func(code nativehist.Code) nativehist.Code { return code.Coarser(1) })
}

// replaceNative puts another table in the place of n, into the half of the cells that does not count, and then has the
// selector name it. Who is killed in between leaves the old table, whose marks readers take off.
func (h *Histogram) replaceNative(n, by *nativeTable, code func(nativehist.Code) nativehist.Code) {
	f := &h.def.family
	cells := words(h.cells.Load(), f.Words())[f.NativeCells():]
	selector := atomic.LoadUint64(&cells[shmstore.NativeSelector]) + 1
	by.free = selector & (shmstore.SlotMax - 1)
	by.take(cells[f.Native.Table(selector):], f.Native)
	by.fill(n, code)
	atomic.StoreUint64(&cells[shmstore.NativeSelector], selector)
	h.table.Store(by)
}

// take makes a table of cells, which nobody else reads or writes yet.
func (n *nativeTable) take(cells []uint64, of *shmstore.Native) {
	n.slots = cells[shmstore.NativeSlots:][:of.Slots()]
	n.limit = int64(of.Buckets)
	for i := range n.slots {
		atomic.StoreUint64(&n.slots[i], n.free)
	}
	atomic.StoreUint64(&cells[shmstore.NativeHalvings], n.halvings)
	atomic.StoreUint64(&cells[shmstore.NativeThreshold], n.widened)
}

// fill takes over what another table has counted, which nobody can add to from then on.
func (n *nativeTable) fill(from *nativeTable, to func(nativehist.Code) nativehist.Code) {
	for i := range from.slots {
		code, count := shmstore.Slot(atomic.OrUint64(&from.slots[i], shmstore.SlotMark))
		switch {
		case code == nativehist.Zero:
			n.put(code, count)
		case code > nativehist.Zero:
			n.put(to(code), count)
		}
	}
}

// placeNative begins the native buckets in a new series' cells.
func (h *Histogram) placeNative() {
	f := &h.def.family
	if f.Native == nil {
		return
	}
	n := &nativeTable{shift: uint(nativehist.MaxSchema - f.Native.Schema), threshold: f.Native.ZeroThreshold}
	n.take(words(h.cells.Load(), f.Words())[f.NativeCells()+f.Native.Table(0):], f.Native)
	h.table.Store(n)
}

// moveNative moves the native buckets to the cells that the series is about to have, see move. It returns the table there,
// to be stored when the cells are.
func (h *Histogram) moveNative(to []uint64) *nativeTable {
	f := &h.def.family
	old := h.table.Load()
	n := &nativeTable{shift: old.shift, threshold: old.threshold, halvings: old.halvings, widened: old.widened}
	n.take(to[f.NativeCells()+f.Native.Table(0):], f.Native)
	n.fill(old, func(code nativehist.Code) nativehist.Code { return code })
	return n
}

// writeNative adds the native buckets to what this process observed, with the count of all observations. The caller holds
// the registry's lock.
func (h *Histogram) writeNative(out *dto.Histogram, nans uint64) {
	n := h.table.Load()
	counts := nativehist.Counts{NaNs: nans}
	counts.Begin(n.schema(), n.threshold, false)
	for i := range n.slots {
		if code, count := shmstore.Slot(atomic.LoadUint64(&n.slots[i])); code > 0 {
			counts.Add(code, count)
		}
	}
	counts.Write(out)
	out.SampleCount = new(counts.Total())
}
