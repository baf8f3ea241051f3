package aggregate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/aggregate/internal/accumulator"
	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/nativehist"
)

func nativeFamily(name string, schema int, threshold float64, labels ...string) shmstore.Family {
	return shmstore.Family{Name: name, Help: "Help of " + name + ".", Type: shmstore.HistogramType, Labels: labels,
		Native: &shmstore.Native{Schema: schema, Buckets: 20, ZeroThreshold: threshold}}
}

func bothFamily(name string, schema int, bounds []float64, labels ...string) shmstore.Family {
	f := nativeFamily(name, schema, 0x1p-128, labels...)
	f.Bounds = bounds
	return f
}

// observeNative counts a value in native cells, by the drawing in FORMAT.md and for one goroutine; worker has the real one.
func observeNative(f *shmstore.Family, c []uint64, v float64) {
	if v != v {
		c[f.NativeCells()-1]++
		return
	}
	n, cells := f.Native, c[f.NativeCells():]
	table := cells[n.Table(cells[shmstore.NativeSelector]):]
	schema, threshold := n.Schema-int(table[shmstore.NativeHalvings]), n.ZeroThreshold
	if table[shmstore.NativeThreshold] != 0 {
		threshold = math.Float64frombits(table[shmstore.NativeThreshold])
	}
	code := nativehist.Zero
	if math.Abs(v) > threshold {
		code = nativehist.Of(v, uint(nativehist.MaxSchema-schema))
	}
	if used := insertNative(table[shmstore.NativeSlots:][:n.Slots()], code, 1); used <= n.Buckets || schema == nativehist.MinSchema {
		return
	}
	next := cells[n.Table(cells[shmstore.NativeSelector]+1):][:shmstore.NativeSlots+n.Slots()]
	clear(next)
	next[shmstore.NativeHalvings], next[shmstore.NativeThreshold] = table[shmstore.NativeHalvings]+1, table[shmstore.NativeThreshold]
	for i := range n.Slots() {
		slot := &table[shmstore.NativeSlots+i]
		*slot |= shmstore.SlotMark
		if code, count := shmstore.Slot(*slot); code > 0 {
			insertNative(next[shmstore.NativeSlots:], code.Coarser(1), count)
		}
	}
	atomic.AddUint64(&cells[shmstore.NativeSelector], 1)
}

// insertNative adds to a bucket's slot and returns how many are taken.
func insertNative(slots []uint64, code nativehist.Code, count uint64) (used int) {
	for i := range slots {
		have, _ := shmstore.Slot(slots[i])
		if have == 0 {
			slots[i] = uint64(code)<<shmstore.SlotBits | count // halvings are the writer's matter
			return i + 1
		}
		if have == code {
			slots[i] += count
			return 0
		}
	}
	panic("the table is full")
}

// nativeText is the native part of a histogram, "" when it has none.
func nativeText(h *dto.Histogram) string {
	if h.Schema == nil {
		return ""
	}
	spans := func(of []*dto.BucketSpan) (all [][2]int64) {
		for _, s := range of {
			all = append(all, [2]int64{int64(s.GetOffset()), int64(s.GetLength())})
		}
		return all
	}
	return fmt.Sprint(h.GetSchema(), h.GetZeroThreshold(), h.GetZeroCount(), spans(h.PositiveSpan), h.PositiveDelta,
		spans(h.NegativeSpan), h.NegativeDelta)
}

// inNative is how many observations the native buckets have.
func inNative(h *dto.Histogram) uint64 {
	total := h.GetZeroCount()
	for _, deltas := range [][]int64{h.PositiveDelta, h.NegativeDelta} {
		count := int64(0)
		for _, d := range deltas {
			count += d
			total += uint64(count)
		}
	}
	return total
}

// like is what client_golang has at the resolution and with the zero bucket of h.
func like(t testing.TB, h *dto.Histogram, values []float64) string {
	t.Helper()
	opts := prometheus.HistogramOpts{Name: "h", NativeHistogramZeroThreshold: h.GetZeroThreshold(),
		NativeHistogramBucketFactor: math.Exp2(math.Exp2(0.5 - float64(h.GetSchema())))}
	if h.GetZeroThreshold() == 0 {
		opts.NativeHistogramZeroThreshold = prometheus.NativeHistogramZeroThresholdZero
	}
	c := prometheus.NewHistogram(opts)
	for _, v := range values {
		c.Observe(v)
	}
	var m dto.Metric
	require.NoError(t, c.Write(&m))
	return nativeText(m.Histogram)
}

// Processes with different resolutions live, die and are folded; the merged buckets are always those of all values, and
// never become finer, although the coarsest source is the first to die.
func TestNativeSurvivesItsCoarsestSource(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	random := rand.New(rand.NewPCG(1, 2))
	var values []float64
	schema, threshold := math.MaxInt, 0.0
	check := func() {
		t.Helper()
		h := gatherAll(t, s)["h"].Metric[0].Histogram
		require.Equal(t, uint64(len(values)), h.GetSampleCount())
		require.Equal(t, like(t, h, values), nativeText(h))
		require.LessOrEqual(t, int(h.GetSchema()), schema)
		require.GreaterOrEqual(t, h.GetZeroThreshold(), threshold)
		schema, threshold = int(h.GetSchema()), h.GetZeroThreshold()
	}
	for i := range 12 {
		c := startChild(t, dir, i%3)
		f := nativeFamily("h", []int{0, 8, 3, 5}[i%4], []float64{0.75, 0.5, 0, 0x1p-128}[i%4])
		f.Native.Buckets = 400
		for range 40 {
			v := random.NormFloat64() * math.Exp(random.NormFloat64())
			values = append(values, v)
			c.do(action{Do: "observe", Family: f, V: v})
		}
		check()
		c.killSeen(dir)
		check()
		if i%2 == 0 {
			mustFold(t, s)
			check()
		}
	}
	assert.Equal(t, 0, schema)
	assert.Equal(t, 1.0, threshold, "the bucket that 0.75 is in ends at 1")
}

// Of a rollout that changes the kind of buckets nothing is lost and nothing falls: what has no such buckets itself is in
// those that hold it.
func TestNativeIsCarriedOver(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	classic, native := histogramFamily("h", []float64{-1, 0, 1, 10}), nativeFamily("h", 0, 0x1p-128)
	both := bothFamily("h", 1, []float64{-1, 0, 1, 10})
	observe := func(p doer, f shmstore.Family, values ...float64) {
		for _, v := range values {
			p.do(action{Do: "observe", Family: f, V: v})
		}
	}
	get := func() *dto.Histogram { return gatherAll(t, s)["h"].Metric[0].Histogram }
	a := startChild(t, dir, 0)
	a.do(ready)
	observe(a, classic, -2, -0.5, 0.5, 7, 100)
	assert.Empty(t, nativeText(get()))

	b := startChild(t, dir, 1)
	b.do(ready)
	observe(b, native, 3, -3, 0, math.NaN())
	h := get()
	assert.Equal(t, uint64(9), h.GetSampleCount())
	assert.Empty(t, h.Bucket)
	assert.Equal(t, like(t, h, []float64{-1, 0, 1, 10, math.Inf(1), 3, -3, 0}), nativeText(h))

	c := startChild(t, dir, 2)
	c.do(ready)
	observe(c, both, 0.25, 20, -1)
	h = get()
	assert.Equal(t, uint64(12), h.GetSampleCount())
	assert.Equal(t, uint64(11), inNative(h))
	assert.Equal(t, int32(0), h.GetSchema())
	buckets := func() (counts []uint64) {
		for _, b := range get().Bucket {
			counts = append(counts, b.GetCumulativeCount())
		}
		return counts
	}
	// -2, -1; -0.5 and what is in (-4, -2] or the zero bucket; 0.5, 0.25 and the bucket up to 2^-128; 7 and that up to 4.
	assert.Equal(t, []uint64{3, 4, 7, 9}, buckets())

	want := func() string { return fmt.Sprint(users(t, s)) }
	before := want()
	b.killSeen(dir)
	mustFold(t, s)
	assert.Equal(t, before, want())

	// A rollback: the classic ones have what the native ones had.
	d := startChild(t, dir, 1)
	d.do(action{Do: "make", Family: classic}, ready)
	h = get()
	assert.Empty(t, nativeText(h))
	assert.Equal(t, []uint64{3, 4, 7, 9}, buckets())
	assert.Equal(t, uint64(12), h.GetSampleCount())
	for _, p := range []*child{a, c, d} {
		p.killSeen(dir)
	}
	before = want()
	mustFold(t, s)
	assert.Equal(t, before, want())
}

// Whatever is in the cells or in the archive, what is exposed does not contradict itself.
func TestNativeCellsThatCannotBe(t *testing.T) {
	for _, f := range []shmstore.Family{nativeFamily("h", 3, 0.5), bothFamily("h", -4, []float64{1, 2})} {
		random := rand.New(rand.NewPCG(3, 4))
		dir := newDir(t)
		s := openStore(t, dir, Options{})
		good := startLocal(t, dir, 0)
		good.do(action{Do: "observe", Family: f, V: 1.5})
		bad := startChild(t, dir, 1)
		var did []action
		for range 200 {
			word := 1 + random.IntN(f.Words()-1)
			if random.IntN(3) == 0 {
				word = 1 + random.IntN(f.NativeCells()+4)
			}
			did = append(did, action{Do: "word", Family: f, Word: word, V: math.Float64frombits(random.Uint64() >> random.IntN(64))})
		}
		look := func() {
			h := gatherAll(t, s)["h"].Metric[0].Histogram
			last := uint64(0)
			for _, b := range h.Bucket {
				require.GreaterOrEqual(t, b.GetCumulativeCount(), last)
				last = b.GetCumulativeCount()
			}
			require.GreaterOrEqual(t, h.GetSampleCount(), last)
			require.Positive(t, h.GetSampleCount())
		}
		for _, a := range did {
			bad.do(a)
			look()
		}
		bad.killSeen(dir)
		mustFold(t, s)
		look()
	}
}

func TestArchivedNativeWordsThatCannotBe(t *testing.T) {
	f := bothFamily("h", 3, []float64{1})
	p := accumulator.New(&f).(*accumulator.Native)
	p.Buckets.Begin(3, 0.5, true)
	p.Buckets.Add(nativehist.Of(3, 5), 7)
	p.Buckets.Add(nativehist.Zero, 2)
	p.Buckets.NaNs = 4
	p.Finite.Counts[0] = 1
	good := p.AppendWords(nil)
	again, err := accumulator.FromWords(&f, good, true)
	require.NoError(t, err)
	assert.Equal(t, p, again)
	empty, err := accumulator.FromWords(&f, accumulator.New(&f).AppendWords(nil), true)
	require.NoError(t, err)
	assert.Equal(t, accumulator.New(&f), empty)
	random := rand.New(rand.NewPCG(5, 6))
	for i := range good {
		_, err := accumulator.FromWords(&f, good[:i], true)
		assert.ErrorIs(t, err, shmstore.ErrCorrupt)
		for range 100 {
			changed := append([]uint64(nil), good...)
			changed[i] ^= 1 << random.IntN(64)
			if q, err := accumulator.FromWords(&f, changed, true); err == nil {
				q.(*accumulator.Native).Buckets.Write(&dto.Histogram{})
			}
		}
	}
}
