package shmstore

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore/nativehist"
)

// nativeTypes are families with native buckets, alone and beside classic ones.
var nativeTypes = []Family{
	{Name: "native", Type: HistogramType, Labels: []string{"a"},
		Native: &Native{Schema: 3, Buckets: 160, ZeroThreshold: 0x1p-128, MaxZeroThreshold: 0.5}},
	{Name: "both", Type: HistogramType, Bounds: []float64{1, 2.5}, Native: &Native{Schema: -4, Buckets: 1}},
}

func TestNativeDefinitionsComeBack(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	for i, f := range nativeTypes {
		s := addSeries(t, w, addFamily(t, w, f), valuesFor(&f, i)...)
		require.Len(t, s.Cells, f.Words())
	}
	r := openReader(t, d, w.Name())
	assert.Equal(t, nativeTypes, r.Families())
	assert.True(t, r.Known())
	assert.Equal(t, 2+1+2*(2+256), nativeTypes[0].Words())
	assert.Equal(t, 4+1+2*(2+64), nativeTypes[1].Words())

	other := nativeTypes[0]
	other.Native = &Native{Schema: 0, Buckets: 1000}
	assert.Equal(t, nativeTypes[0].Key(), other.Key(), "they add up")
	assert.NotEqual(t, addFamily(t, w, nativeTypes[0]), addFamily(t, w, other), "but have other cells")
	classic := nativeTypes[1]
	classic.Native = nil
	assert.NotEqual(t, nativeTypes[1].Key(), classic.Key())
}

func TestNativeDefinitionsThatCannotBe(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	for _, change := range []func(*Family){
		func(f *Family) { f.Native.Schema = 9 },
		func(f *Family) { f.Native.Schema = -5 },
		func(f *Family) { f.Native.Buckets = 0 },
		func(f *Family) { f.Native.Buckets = -1 },
		func(f *Family) { f.Native.Buckets = MaxNativeBuckets + 1 },
		func(f *Family) { f.Native.ZeroThreshold = -1 },
		func(f *Family) { f.Native.ZeroThreshold = math.NaN() },
		func(f *Family) { f.Native.MaxZeroThreshold = math.Inf(1) },
		func(f *Family) { f.Type = SummaryType },
		func(f *Family) { f.Type, f.Mode = GaugeType, Sum },
	} {
		f := nativeTypes[0]
		f.Native = new(*f.Native)
		change(&f)
		_, err := w.AddFamily(f)
		assert.ErrorIs(t, err, errDefinition)
		_, _, err = decodeFamily(appendFamily(nil, &f))
		assert.ErrorIs(t, err, ErrCorrupt)
	}
	b := appendFamily(nil, &nativeTypes[0])
	for i := range len(b) {
		_, _, err := decodeFamily(b[:i])
		assert.ErrorIs(t, err, ErrCorrupt)
	}
	for _, n := range []int{1, 39, 40, 41, 160, 320, MaxNativeBuckets} {
		slots := (&Native{Buckets: n}).Slots()
		assert.Zero(t, slots&(slots-1))
		assert.GreaterOrEqual(t, slots, n+n/2)
	}
}

// tableOf writes a table whose numbers all say which it is, as a process that changes its resolution does.
func tableOf(f *Family, cells []uint64, selector uint64) {
	n := f.Native
	table := cells[f.NativeCells():][n.Table(selector):][:n.tableWords()]
	for i := range table[NativeSlots:] {
		atomic.StoreUint64(&table[NativeSlots+i], 0)
	}
	atomic.StoreUint64(&table[NativeHalvings], selector%4)
	for i := range 50 {
		atomic.StoreUint64(&table[NativeSlots+i], uint64(nativehist.Zero)<<SlotBits|selector)
	}
	atomic.StoreUint64(&cells[f.NativeCells()+NativeSelector], selector)
}

// A reader sees one table or another, whole, while a writer replaces them without a pause.
func TestNativeTablesAreNeverMixed(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	f := &nativeTypes[0]
	s := addSeries(t, w, addFamily(t, w, *f), "x")
	tableOf(f, s.Cells, 1)
	r := openReader(t, d, w.Name())
	var stop atomic.Bool
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := uint64(2); !stop.Load(); i++ {
			tableOf(f, s.Cells, i)
		}
	})
	check := func(cells []uint64) (selector uint64) {
		got := f.AppendNative([]uint64{77}, cells)[1:]
		if got[0] == NativeUnreadable {
			return 0
		}
		require.Equal(t, uint64(50), got[2])
		require.Len(t, got, 3+50)
		for _, slot := range got[3:] {
			code, count := Slot(slot)
			require.Equal(t, nativehist.Zero, code)
			if selector == 0 {
				selector = count
			}
			require.Equal(t, selector, count)
		}
		require.Equal(t, uint64(3-nativehist.MinSchema)-selector%4, got[0])
		return selector
	}
	last, seen := uint64(0), 0
	for i := 0; i < 2000 || seen < 10; i++ {
		require.NoError(t, r.Read(func(words []uint64) {
			info := r.Series()[0]
			if selector := check(words[info.Cell : info.Cell+info.Words]); selector != 0 {
				require.GreaterOrEqual(t, selector, last)
				last = selector
				seen++
			}
		}))
		require.NoError(t, r.ReadStable(func(_ int, cells []uint64) {
			require.Len(t, cells, f.Words())
			if selector := check(cells); selector != 0 {
				require.GreaterOrEqual(t, selector, last)
				last = selector
				seen++
			}
		}))
	}
	stop.Store(true)
	writer.Wait()
}

// Whatever the cells hold, reading them ends and stays within its bounds.
func TestNativeCellsOfAnyContent(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		f := &nativeTypes[random.IntN(2)]
		cells := make([]uint64, f.Words())
		for i := range cells {
			cells[i] = random.Uint64() >> random.IntN(64)
		}
		got := f.AppendNative(nil, cells)
		require.GreaterOrEqual(t, len(got), 3)
		require.Equal(t, len(got)-3, int(got[2]))
		if got[0] == NativeUnreadable {
			require.Len(t, got, 3)
			continue
		}
		require.LessOrEqual(t, got[0], uint64(nativehist.MaxSchema-nativehist.MinSchema))
		threshold := math.Float64frombits(got[1])
		require.True(t, threshold >= 0 && threshold <= math.MaxFloat64)
		for _, slot := range got[3:] {
			require.NotZero(t, slot)
			require.Less(t, slot, uint64(SlotMark))
		}
	}
}
