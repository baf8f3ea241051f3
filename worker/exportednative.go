package worker

import (
	"math"

	dto "github.com/prometheus/client_model/go"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/nativehist"
)

// exportedNative is the native buckets of an exported histogram: a table as a Histogram's, which what the source has
// more than before is added to.
type exportedNative struct {
	table *Histogram // not registered; its classic cells are written by the exporter
	old   map[nativehist.Code]uint64
	at    int // the schema of old
	nans  resetAdjustedCount
}

// nativeOf returns the native buckets that a family's histograms have when it is first gathered: the finest of their
// schemas, and as many buckets as a histogram of this package has that says nothing else; nil where they have none.
func nativeOf(metrics []*dto.Metric) *shmstore.Native {
	var n *shmstore.Native
	for _, m := range metrics {
		h := m.GetHistogram()
		if !isNative(h) {
			continue
		}
		if n == nil {
			n = &shmstore.Native{Schema: nativehist.MinSchema, Buckets: defaultNativeBuckets, ZeroThreshold: math.MaxFloat64}
		}
		n.Schema = max(n.Schema, int(h.GetSchema()))
		n.ZeroThreshold = min(n.ZeroThreshold, h.GetZeroThreshold())
	}
	return n
}

// isNative reports whether a histogram has native buckets of a kind that adds up.
func isNative(h *dto.Histogram) bool {
	return h != nil && h.Schema != nil && h.GetSchema() >= nativehist.MinSchema && h.GetSchema() <= nativehist.MaxSchema &&
		h.GetZeroThreshold() >= 0 && h.GetZeroThreshold() <= math.MaxFloat64
}

// newExportedNative returns native buckets in process memory.
func newExportedNative(f *exportedFamily) *exportedNative {
	n := &exportedNative{table: &Histogram{bounds: f.def.Bounds}}
	n.table.def = &definition{registry: f.e.registry, family: f.def}
	n.table.cells.Store(&memoryCells(f.def.Words())[0])
	n.table.placeNative()
	return n
}

// moveTo moves the native buckets to other cells of the same series.
func (n *exportedNative) moveTo(cells []uint64) {
	moved := n.table.moveNative(cells)
	n.table.cells.Store(&cells[0])
	n.table.table.Store(moved)
}

// follow adds what the source has more than before to each bucket, and reports whether one has fallen. The table is never
// finer than the source, nor its zero bucket narrower, so that every bucket of the source is within one of the table.
func (n *exportedNative) follow(h *dto.Histogram) (fell bool) {
	r := n.table.def.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	have, ok := nativeCounts(h)
	switch {
	case !ok && n.old != nil:
		return false // it will have some again
	case !ok:
		return n.nans.follow(h.GetSampleCount())
	}
	n.coarsen(int(h.GetSchema()), h.GetZeroThreshold())
	table := n.table.table.Load()
	at := table.schema()
	now := make(map[nativehist.Code]uint64, len(have))
	rest := h.GetSampleCount()
	for code, count := range have {
		now[table.fit(code, int(h.GetSchema()))] += count
		rest -= min(rest, count)
	}
	before := make(map[nativehist.Code]uint64, len(n.old))
	for code, count := range n.old {
		before[table.fit(code, n.at)] += count
	}
	for code, count := range before {
		fell = fell || now[code] < count
	}
	for code, count := range now {
		if count > before[code] {
			to := n.table.table.Load()
			to.put(to.fit(code, at), count-before[code])
			if to.used.Load() > to.limit {
				n.table.limitNative()
			}
		}
	}
	n.old, n.at = now, at
	return n.nans.follow(rest) || fell
}

// coarsen makes the table one that a source of this schema and zero threshold fits.
func (n *exportedNative) coarsen(schema int, threshold float64) {
	for t := n.table.table.Load(); t.schema() > schema; t = n.table.table.Load() {
		n.table.halveNative(t)
	}
	if t := n.table.table.Load(); t.threshold < threshold {
		n.table.widenNative(t, within(threshold, t.schema()), threshold)
	}
}

// fit returns the bucket of the table that has what a bucket of a schema that is no coarser has.
func (n *nativeTable) fit(code nativehist.Code, schema int) nativehist.Code {
	code = code.Coarser(uint(schema - n.schema()))
	if code != nativehist.Zero && code.Bucket() <= within(n.threshold, n.schema()) {
		return nativehist.Zero
	}
	return code
}

// within returns the number of the last bucket that is part of a zero bucket.
func within(threshold float64, schema int) int {
	if threshold == 0 {
		return math.MinInt
	}
	i := nativehist.Bucket(threshold, uint(nativehist.MaxSchema-schema))
	if nativehist.Upper(i, schema) > threshold {
		i--
	}
	return i
}

// maxSourceBuckets is how many native buckets are taken from a source.
const maxSourceBuckets = 1 << 16

// nativeCounts returns the native buckets of a histogram; false when it has none, or some that cannot be.
func nativeCounts(h *dto.Histogram) (counts map[nativehist.Code]uint64, ok bool) {
	if !isNative(h) {
		return nil, false
	}
	counts = map[nativehist.Code]uint64{}
	if h.GetZeroCount() >= shmstore.SlotMax {
		return nil, false
	}
	if h.GetZeroCount() > 0 {
		counts[nativehist.Zero] = h.GetZeroCount()
	}
	return counts, addSide(counts, h, h.GetPositiveSpan(), h.GetPositiveDelta(), false) &&
		addSide(counts, h, h.GetNegativeSpan(), h.GetNegativeDelta(), true)
}

func addSide(counts map[nativehist.Code]uint64, h *dto.Histogram, spans []*dto.BucketSpan, deltas []int64, negative bool) bool {
	if len(deltas) > maxSourceBuckets {
		return false
	}
	i, count := 0, int64(0)
	for _, span := range spans {
		i += int(span.GetOffset())
		for range span.GetLength() {
			code := nativehist.CodeOf(i, negative)
			if len(deltas) == 0 || i < math.MinInt32/2 || i > math.MaxInt32/2 || !code.Valid(int(h.GetSchema())) {
				return false
			}
			if count += deltas[0]; count < 0 || count >= shmstore.SlotMax {
				return false // the latter is more than a process can observe, and than a slot takes
			}
			if count > 0 {
				counts[code] = uint64(count)
			}
			i, deltas = i+1, deltas[1:]
		}
	}
	return true
}
