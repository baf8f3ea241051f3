package shmstore

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
	"github.com/onescrape/onescrape/shmstore/internal/osfile"
)

// everyType is a family of each type, with the values of two series for each.
var everyType = []Family{
	{Name: "requests_total", Help: "Requests, \\ and \n \"ünïcode\".", Unit: "requests", Type: CounterType,
		Labels: []string{"code", "route"}},
	{Name: "free", Help: "", Type: GaugeType, Mode: LiveSum, Labels: []string{"pool"}},
	{Name: "recent", Help: "When.", Type: GaugeType, Mode: MostRecent, Labels: []string{"pool"}},
	{Name: "seconds", Help: "How long.", Unit: "seconds", Type: HistogramType, Labels: []string{"route"},
		Bounds: []float64{math.Inf(-1), -1, 0, math.SmallestNonzeroFloat64, 0.25, 1e300}},
	{Name: "unbounded", Type: HistogramType, Labels: []string{"route"}},
	{Name: "size", Type: SummaryType, Labels: []string{"route"}},
	{Name: "other", Type: UntypedType, Mode: Max, Labels: []string{"a", "b", "c"}},
	{Name: "bare", Type: CounterType},
}

func valuesFor(f *Family, n int) []string {
	values := make([]string, len(f.Labels))
	for i, l := range f.Labels {
		values[i] = strings.Repeat(fmt.Sprintf("%s-%d ", l, n), n%5)
	}
	return values
}

func TestEveryTypeIsReadAsItWasWritten(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{Slot: 3})
	var wrote []*Series
	var values [][]string
	for n := range 20 {
		for _, f := range everyType {
			id := addFamily(t, w, f)
			v := valuesFor(&f, n)
			s := addSeries(t, w, id, v...)
			require.Len(t, s.Cells, f.Words())
			for i := range s.Cells {
				require.Zero(t, s.Cells[i])
				atomic.StoreUint64(&s.Cells[i], uint64(len(wrote))<<32|uint64(i+1))
			}
			wrote, values = append(wrote, s), append(values, v)
		}
	}

	r := openReader(t, d, w.Name())
	require.Equal(t, everyType, r.Families())
	series, cells := r.Series(), cellsOf(t, r)
	require.Len(t, series, len(wrote))
	for i, s := range series {
		assert.Equal(t, uint32(i%len(everyType)), s.Family)
		assert.Equal(t, values[i], append([]string{}, s.Values...))
		assert.False(t, s.Hidden || s.Free)
		assert.True(t, wrote[i].Created.Equal(time.Unix(0, s.Created)))
		assert.NotZero(t, r.records[i].born)
		assert.Equal(t, []uint64(wrote[i].Cells), cells[i])
	}
	n := 0
	require.NoError(t, r.ReadStable(func(i int, c []uint64) {
		if !r.Families()[series[i].Family].timed() {
			assert.Equal(t, cells[i], c)
		}
		n++
	}))
	assert.Equal(t, len(wrote), n)
	assert.True(t, r.Known())
}

func TestHeaderAndStateSayWhatTheProcessIs(t *testing.T) {
	d := newStore(t)
	before := osfile.Monotonic()
	w := newWriter(t, d, WriterOptions{Slot: -1})
	names, err := d.Names()
	require.NoError(t, err)
	assert.Equal(t, []string{w.Name()}, names)

	r := openReader(t, d, w.Name())
	info := r.Info()
	assert.Equal(t, w.Name(), info.Name)
	assert.Equal(t, os.Getpid(), info.PID)
	assert.Equal(t, -1, info.Slot)
	assert.Equal(t, version, info.Version)
	assert.True(t, info.ThisBoot)
	assert.WithinDuration(t, time.Now(), info.Started, time.Minute)
	assert.GreaterOrEqual(t, info.StartedMono, before)
	assert.LessOrEqual(t, info.StartedMono, osfile.Monotonic())

	s, err := r.State()
	require.NoError(t, err)
	assert.False(t, s.Ready || s.Drained)
	assert.Zero(t, s.Overflow)
	assert.Equal(t, fileSize(t, d, w.Name()), s.Reserved)
	w.SetReady()
	w.SetOverflow(7)
	first, err := r.State()
	require.NoError(t, err)
	assert.True(t, first.Ready)
	assert.Equal(t, 7, first.Overflow)
	assert.GreaterOrEqual(t, first.ReadyAt, info.StartedMono)
	w.SetReady()
	require.NoError(t, w.Close())
	s, err = r.State()
	require.NoError(t, err)
	assert.Equal(t, first.ReadyAt, s.ReadyAt, "ready counts from the first time")
	assert.True(t, s.Ready && s.Drained)
	alive, err := r.Alive()
	require.NoError(t, err)
	assert.True(t, alive, "a drained file's process still lives")

	require.NoError(t, w.Abandon())
	require.NoError(t, w.Abandon())
	names, err = d.Names()
	require.NoError(t, err)
	assert.Empty(t, names)
}

func TestOneKeyIsOneFamily(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	f := Family{Name: "x", Help: "one", Type: CounterType, Labels: []string{"a"}}
	id := addFamily(t, w, f)
	f.Help, f.Unit = "another", "seconds"
	assert.Equal(t, id, addFamily(t, w, f))
	f.Labels = []string{"b"}
	assert.NotEqual(t, id, addFamily(t, w, f))
	assert.Len(t, openReader(t, d, w.Name()).Families(), 2)
}

func TestRefreshParsesOnlyWhatIsNew(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	f := addFamily(t, w, Family{Name: "x", Type: CounterType, Labels: []string{"a"}})
	for n := range 500 {
		addSeries(t, w, f, fmt.Sprint(n))
	}
	r := openReader(t, d, w.Name())
	require.Len(t, r.Series(), 500)
	layout, first := r.Layout(), &r.Series()[0].Values[0]

	allocations := testing.AllocsPerRun(10, func() { require.NoError(t, r.Refresh()) })
	assert.LessOrEqual(t, allocations, 5.0, "nothing new, nothing parsed")
	g := addFamily(t, w, Family{Name: "y", Type: CounterType, Labels: []string{"a"}})
	for n := range 500 {
		addSeries(t, w, g, fmt.Sprint(n))
	}
	require.NoError(t, r.Refresh())
	require.Len(t, r.Series(), 1000)
	assert.Equal(t, layout, r.Layout(), "appending is no change of layout")
	assert.Same(t, first, &r.Series()[0].Values[0], "what was parsed is kept")
	assert.Equal(t, []string{"499"}, r.Series()[999].Values)
	assert.Equal(t, g, r.Series()[999].Family)
}

func TestReadAllocatesNothing(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	f := addFamily(t, w, Family{Name: "x", Type: CounterType})
	addSeries(t, w, f)
	r := openReader(t, d, w.Name())
	sum := uint64(0)
	read := func(words []uint64) { sum += atomic.LoadUint64(&words[r.series[0].Cell]) }
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if err := r.Read(read); err != nil {
			panic(err)
		}
	}))
}

func TestDeletedGaugeIsHiddenThenItsPlaceIsReused(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	f := addFamily(t, w, Family{Name: "g", Type: GaugeType, Mode: Sum, Labels: []string{"a"}})
	keep := addSeries(t, w, f, "keep")
	gone := addSeries(t, w, f, "gone")
	atomic.StoreUint64(&keep.Cells[0], GaugeWord(1))
	atomic.StoreUint64(&gone.Cells[0], GaugeWord(2))
	r := openReader(t, d, w.Name())
	layout := r.Layout()

	w.Released(gone)
	require.NoError(t, r.Refresh())
	assert.Equal(t, layout, r.Layout(), "what is not deleted cannot be released")

	w.Delete(gone)
	w.Delete(gone)
	assert.ErrorIs(t, r.Read(func([]uint64) {}), ErrLayoutChanged)
	require.NoError(t, r.Refresh())
	assert.NotEqual(t, layout, r.Layout())
	assert.True(t, r.Series()[1].Hidden)
	assert.NotZero(t, r.memory.Load(r.records[1].offset()+seriesDeletedAt))
	assert.False(t, r.Series()[0].Hidden)
	assert.Equal(t, GaugeWord(2), cellsOf(t, r)[1][0], "a handle may still write to it")

	w.Released(gone)
	w.Released(gone)
	require.NoError(t, r.Refresh())
	assert.True(t, r.Series()[1].Hidden, "a reader may still want its value")
	assert.NotSame(t, &gone.Cells[0], &addSeries(t, w, f, "soon").Cells[0])

	layout = r.Layout()
	w.rest = 0
	next := addSeries(t, w, f, "next")
	assert.Same(t, &gone.Cells[0], &next.Cells[0])
	assert.Zero(t, next.Cells[0])
	assert.ErrorIs(t, r.Read(func([]uint64) {}), ErrLayoutChanged)
	require.NoError(t, r.Refresh())
	assert.NotEqual(t, layout, r.Layout())
	require.Len(t, r.Series(), 3, "the record was reused as well")
	assert.Equal(t, []string{"next"}, r.Series()[1].Values)
	v, _ := GaugeValue(cellsOf(t, r)[0][0])
	assert.Equal(t, 1.0, v)

	w.Delete(gone)
	w.Released(gone)
	require.NoError(t, r.Refresh())
	assert.False(t, r.Series()[1].Hidden, "the old handle means nothing to the new series")
}

func TestDeletedCounterKeepsItsCellsWhileNoArchiveHasThem(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	for i, f := range []Family{
		{Name: "c", Type: CounterType, Labels: []string{"a"}},
		{Name: "h", Type: HistogramType, Labels: []string{"a"}, Bounds: []float64{1, 2, 3}},
		{Name: "s", Type: SummaryType, Labels: []string{"a"}},
	} {
		id := addFamily(t, w, f)
		gone := addSeries(t, w, id, "gone")
		for j := range gone.Cells {
			atomic.StoreUint64(&gone.Cells[j], uint64(42+j))
		}
		w.Delete(gone)
		w.Released(gone)
		next := addSeries(t, w, id, "next")
		assert.NotSame(t, &gone.Cells[0], &next.Cells[0])
		r := openReader(t, d, w.Name())
		require.Len(t, r.Series(), 2*i+2)
		assert.True(t, r.Series()[2*i].Hidden)
		assert.Equal(t, []string{"gone"}, r.Series()[2*i].Values)
		assert.Equal(t, uint64(42), cellsOf(t, r)[2*i][0])
	}
}

func TestChurnOfGaugesKeepsTheFileAsItIs(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	w.rest = 0
	families := []uint32{
		addFamily(t, w, Family{Name: "g", Type: GaugeType, Mode: Sum, Labels: []string{"a"}}),
		addFamily(t, w, Family{Name: "r", Type: GaugeType, Mode: MostRecent, Labels: []string{"a"}}),
	}
	const alive, rounds = 100, 100_000
	ring := make([]*Series, alive)
	var size int64
	for n := range rounds {
		if old := ring[n%alive]; old != nil {
			w.Delete(old)
			w.Released(old)
		}
		s, err := w.AddSeries(families[n%2], []string{fmt.Sprintf("value-%08d", n)})
		require.NoError(t, err)
		atomic.StoreUint64(&s.Cells[0], uint64(n))
		if ring[n%alive] = s; n == 10*alive {
			size = fileSize(t, d, w.Name())
		}
	}
	assert.Equal(t, size, fileSize(t, d, w.Name()))
	r := openReader(t, d, w.Name())
	assert.LessOrEqual(t, len(r.Series()), alive+1)
	seen := map[string]bool{}
	for i, s := range r.Series() {
		if !s.Free {
			seen[s.Values[0]] = true
			assert.Equal(t, fmt.Sprintf("value-%08d", cellsOf(t, r)[i][0]), s.Values[0])
		}
	}
	assert.Len(t, seen, alive)
}

func TestNeighboursShareNoLineUntilThePageHasOneOnEach(t *testing.T) {
	for name, f := range map[string]Family{
		"counter": {Name: "x", Type: CounterType, Labels: []string{"a"}},
		"gauge":   {Name: "x", Type: GaugeType, Mode: Sum, Labels: []string{"a"}},
		"summary": {Name: "x", Type: SummaryType, Labels: []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newStore(t)
			w := newWriter(t, d, WriterOptions{})
			id := addFamily(t, w, f)
			perPage := pageSize / wordSize / f.Words()
			page := map[int64]bool{}
			lines := map[int64]bool{}
			for n := range perPage {
				s := addSeries(t, w, id, fmt.Sprint(n))
				page[s.cells/pageSize] = true
				end := s.cells + int64(f.Words())*wordSize
				require.Equal(t, s.cells/lineSize, (end-1)/lineSize, "one series, one line")
				if n < pageSize/lineSize {
					require.False(t, lines[s.cells/lineSize], "series %d", n)
				}
				lines[s.cells/lineSize] = true
			}
			assert.Len(t, page, 1, "a full page is fully packed")
			assert.Len(t, lines, pageSize/lineSize)
			assert.False(t, page[addSeries(t, w, id, "next").cells/pageSize])
		})
	}
}

func TestHistogramsBeginOnALineAndShareNone(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	taken := map[int64]int{}
	for n := range 300 {
		bounds := make([]float64, 3+n%40)
		for i := range bounds {
			bounds[i] = float64(i)
		}
		f := Family{Name: fmt.Sprint("h", n%40), Type: HistogramType, Labels: []string{"a"}, Bounds: bounds}
		s := addSeries(t, w, addFamily(t, w, f), fmt.Sprint(n))
		require.Zero(t, s.cells%lineSize)
		for line := s.cells / lineSize; line <= (s.cells+int64(len(s.Cells))*wordSize-1)/lineSize; line++ {
			taken[line]++
			require.Equal(t, 1, taken[line])
		}
	}
}

func TestTenThousandCountersOfThreeLabelsNeedTwoMiBAtMost(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	assert.LessOrEqual(t, fileSize(t, d, w.Name()), int64(128<<10), "an empty one")
	f := addFamily(t, w, Family{Name: "demo_requests_total", Help: "Requests answered.", Type: CounterType,
		Labels: []string{"code", "method", "route"}})
	for n := range 10_000 {
		addSeries(t, w, f, fmt.Sprint(200+n%5), "DELETE", fmt.Sprintf("/api/v1/customers/%d", n))
	}
	assert.LessOrEqual(t, fileSize(t, d, w.Name()), int64(2<<20))
	assert.Len(t, openReader(t, d, w.Name()).Series(), 10_000)
}

func TestGrowthFitsEveryPageSizeOfAKernel(t *testing.T) {
	before := grain
	defer func() { grain = before }()
	for _, grain = range []int64{4 << 10, 16 << 10, 64 << 10} {
		d := newStore(t)
		w := newWriter(t, d, WriterOptions{Limit: 1<<20 + 1})
		f := addFamily(t, w, Family{Name: "x", Type: CounterType, Labels: []string{"a"}})
		n := 0
		var err error
		for ; err == nil; n++ {
			require.Zero(t, fileSize(t, d, w.Name())%grain)
			require.Zero(t, w.space.reserved%grain)
			_, err = w.AddSeries(f, []string{fmt.Sprint(n)})
		}
		require.ErrorIs(t, err, ErrFull)
		r := openReader(t, d, w.Name())
		require.Len(t, r.Series(), n-1)
		require.LessOrEqual(t, fileSize(t, d, w.Name()), int64(1<<20)+grain)
	}
}

func TestWriterRefusesWhatNoReaderWouldTake(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	long := strings.Repeat("x", encoding.MaxString+1)
	many := make([]string, maxLabels+1)
	for i := range many {
		many[i] = fmt.Sprintf("l%04d", i)
	}
	huge := slices.Repeat([]string{strings.Repeat("x", encoding.MaxString)}, 17)
	counter := Family{Name: "x", Type: CounterType}
	for name, change := range map[string]func(f *Family){
		"no name":          func(f *Family) { f.Name = "" },
		"no type":          func(f *Family) { f.Type = 0 },
		"unknown type":     func(f *Family) { f.Type = UntypedType + 1 },
		"mode of counter":  func(f *Family) { f.Mode = Sum },
		"gauge, no mode":   func(f *Family) { f.Type = GaugeType },
		"unknown mode":     func(f *Family) { f.Type, f.Mode = GaugeType, LiveMostRecent+1 },
		"long help":        func(f *Family) { f.Help = long },
		"long name":        func(f *Family) { f.Name = long },
		"name not UTF-8":   func(f *Family) { f.Name = "\xff" },
		"help not UTF-8":   func(f *Family) { f.Help = "\xff" },
		"label not UTF-8":  func(f *Family) { f.Labels = []string{"\xff"} },
		"labels unordered": func(f *Family) { f.Labels = []string{"b", "a"} },
		"label twice":      func(f *Family) { f.Labels = []string{"a", "a"} },
		"empty label":      func(f *Family) { f.Labels = []string{""} },
		"many labels":      func(f *Family) { f.Labels = many },
		"bounds":           func(f *Family) { f.Bounds = []float64{1} },
		"NaN":              func(f *Family) { f.Type, f.Bounds = HistogramType, []float64{math.NaN()} },
		"+Inf":             func(f *Family) { f.Type, f.Bounds = HistogramType, []float64{math.Inf(1)} },
		"descending":       func(f *Family) { f.Type, f.Bounds = HistogramType, []float64{2, 1} },
		"many bounds":      func(f *Family) { f.Type, f.Bounds = HistogramType, make([]float64, maxBounds+1) },
	} {
		f := counter
		change(&f)
		_, err := w.AddFamily(f)
		assert.Error(t, err, name)
	}

	f := addFamily(t, w, Family{Name: "x", Type: CounterType, Labels: []string{"a"}})
	wide := addFamily(t, w, Family{Name: "wide", Type: CounterType, Labels: many[:len(huge)]})
	for name, add := range map[string]func() (*Series, error){
		"no such family": func() (*Series, error) { return w.AddSeries(99, nil) },
		"few values":     func() (*Series, error) { return w.AddSeries(f, nil) },
		"many values":    func() (*Series, error) { return w.AddSeries(f, []string{"a", "b"}) },
		"long value":     func() (*Series, error) { return w.AddSeries(f, []string{long}) },
		"not UTF-8":      func() (*Series, error) { return w.AddSeries(f, []string{"\xff"}) },
		"long record":    func() (*Series, error) { return w.AddSeries(wide, huge) },
	} {
		_, err := add()
		assert.Error(t, err, name)
		assert.NotErrorIs(t, err, ErrFull, name)
	}
	_, err := d.Create(WriterOptions{Slot: -2})
	assert.Error(t, err)

	addSeries(t, w, f, long[1:])
	r := openReader(t, d, w.Name())
	require.Len(t, r.Series(), 1)
	assert.Equal(t, long[1:], r.Series()[0].Values[0])
}

func TestGaugeWordStandsForEveryFloat(t *testing.T) {
	_, set := GaugeValue(0)
	assert.False(t, set, "a new cell was never set")
	for _, v := range []float64{0, math.Copysign(0, -1), 1, -1.5, math.Inf(1), math.Inf(-1), math.MaxFloat64,
		math.SmallestNonzeroFloat64} {
		got, set := GaugeValue(GaugeWord(v))
		assert.True(t, set)
		assert.Equal(t, math.Float64bits(v), math.Float64bits(got))
	}
	for _, bits := range []uint64{unset, math.Float64bits(math.NaN())} {
		got, set := GaugeValue(GaugeWord(math.Float64frombits(bits)))
		assert.True(t, set && math.IsNaN(got))
	}
}

func TestFileMadeByAHiddenNameIsTheSame(t *testing.T) {
	d := newStore(t)
	f, err := d.hidden(0o400)
	require.NoError(t, err)
	entries, err := os.ReadDir(d.Path())
	require.NoError(t, err)
	assert.Len(t, entries, 2)
	names, err := d.Names()
	require.NoError(t, err)
	assert.Empty(t, names, "it is not visible before it is complete")
	f.discard()
	entries, err = os.ReadDir(d.Path())
	require.NoError(t, err)
	assert.Len(t, entries, 1)

	w, err := d.create(WriterOptions{Slot: 1}, d.hidden)
	require.NoError(t, err)
	id := addFamily(t, w, everyType[0])
	s := addSeries(t, w, id, "200", "/")
	atomic.AddUint64(&s.Cells[0], 5)
	r := openReader(t, d, w.Name())
	assert.Equal(t, uint64(5), cellsOf(t, r)[0][0])
	alive, err := r.Alive()
	require.NoError(t, err)
	assert.True(t, alive)

	f, err = d.hidden(0o400)
	require.NoError(t, err)
	assert.Error(t, f.publish(w.Name()), "a name that is taken stays")
	f.discard()
	entries, err = os.ReadDir(d.Path())
	require.NoError(t, err)
	assert.Len(t, entries, 2)
}

func TestRecordMayBeUsedAgainByAFamilyThatLiesBehindIt(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	first := addFamily(t, w, Family{Name: "first", Type: GaugeType, Mode: Sum, Labels: []string{"a"}})
	gone := addSeries(t, w, first, "gone")
	follows := openReader(t, d, w.Name())
	w.rest = 0
	w.Delete(gone)
	w.Released(gone)
	later := addFamily(t, w, Family{Name: "later", Type: CounterType, Labels: []string{"a"}})
	s := addSeries(t, w, later, "here")
	require.Equal(t, gone.offset, s.offset)
	atomic.StoreUint64(&s.Cells[0], 7)

	require.NoError(t, follows.Refresh())
	for _, r := range []*Reader{follows, openReader(t, d, w.Name())} {
		require.Len(t, r.Series(), 1)
		assert.Equal(t, later, r.Series()[0].Family)
		assert.Equal(t, []string{"here"}, r.Series()[0].Values)
		assert.Equal(t, uint64(7), cellsOf(t, r)[0][0])
	}
}

func TestSeriesIsNotSeenWithoutItsFirstValue(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	w.rest = 0
	id := addFamily(t, w, Family{Name: "free", Type: GaugeType, Mode: LiveSum})
	add := func() *Series {
		s, err := w.AddSeriesWith(id, nil, time.Now(), func(cells []uint64) {
			for _, s := range openReader(t, d, w.Name()).Series() {
				require.True(t, s.Free, "not seen yet")
			}
			cells[0] = GaugeWord(7)
		})
		require.NoError(t, err)
		r := openReader(t, d, w.Name())
		require.Len(t, r.Series(), 1)
		require.Equal(t, []uint64{GaugeWord(7)}, cellsOf(t, r)[0])
		return s
	}
	s := add()
	w.Delete(s)
	w.Released(s)
	require.Equal(t, s.offset, add().offset, "the record is used again")
}
