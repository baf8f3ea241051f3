package aggregate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/quantile"
)

// windowedFamily is a summary with the median and the largest of this many slices of an hour.
func windowedFamily(name string, median float64, slices int, labels ...string) shmstore.Family {
	f := summaryFamily(name, labels...)
	f.Window = &quantile.Window{Objectives: []float64{0.5 * median, 1}, Age: time.Duration(slices) * time.Hour, Slices: slices,
		Resolution: 35}
	return f
}

// observeWindow counts an observation that was made at a time of Monotonic, 0: now.
func (p *process) observeWindow(w *quantile.Window, s *shmstore.Series, v float64, at uint64) error {
	if w == nil {
		return nil
	}
	if at == 0 {
		at = shmstore.Monotonic()
	}
	if p.octaves == nil {
		p.octaves = map[*shmstore.Series]map[uint64][]uint64{}
	}
	if p.octaves[s] == nil {
		p.octaves[s] = map[uint64][]uint64{}
	}
	place := int(w.Epoch(at) % uint64(w.Slices))
	slice := s.Window[quantile.WindowSlices+place*quantile.SliceWords:][:quantile.SliceWords]
	if atomic.LoadUint64(&slice[quantile.SliceEpoch]) != w.Epoch(at) {
		atomic.StoreUint64(&slice[quantile.SliceEpoch], 0)
		atomic.StoreUint64(&slice[quantile.SliceZero], 0)
		for _, block := range p.octaves[s] {
			for i := range w.Resolution {
				atomic.StoreUint64(&block[quantile.OctaveCounts+place*w.Resolution+i], 0)
			}
		}
		atomic.StoreUint64(&slice[quantile.SliceEpoch], w.Epoch(at))
	}
	bits := math.Float64bits(v)
	octave, ok := quantile.Octave(bits)
	if !ok {
		atomic.AddUint64(&slice[quantile.SliceZero], 1)
		return nil
	}
	block := p.octaves[s][octave]
	if block == nil {
		var err error
		if block, err = p.w.AddOctave(s, octave); err != nil {
			return err
		}
		p.octaves[s][octave] = block
	}
	i := quantile.OctaveCounts + place*w.Resolution + quantile.NewResolution(w.Resolution).Bucket(bits)
	atomic.AddUint64(&block[i], 1)
	return nil
}

// quantilesOf returns the quantiles of the one series of a family.
func quantilesOf(t testing.TB, s *Store, name string) map[float64]float64 {
	t.Helper()
	f := gatherAll(t, s)[name]
	require.NotNil(t, f)
	require.Len(t, f.Metric, 1)
	all := map[float64]float64{}
	require.True(t, slices.IsSortedFunc(f.Metric[0].Summary.Quantile, func(a, b *dto.Quantile) int {
		return int(math.Copysign(1, a.GetQuantile()-b.GetQuantile()))
	}))
	for _, q := range f.Metric[0].Summary.Quantile {
		all[q.GetQuantile()] = q.GetValue()
	}
	return all
}

// requireQuantiles requires that quantiles are what they are to be, within 1 %; NaN is itself.
func requireQuantiles(t testing.TB, want, got map[float64]float64) {
	t.Helper()
	require.Len(t, got, len(want))
	for q, v := range want {
		if math.IsNaN(v) {
			require.True(t, math.IsNaN(got[q]), "%v is %v", q, got[q])
		} else {
			require.LessOrEqual(t, math.Abs(got[q]-v), 0.01*math.Abs(v), "%v is %v, not %v", q, got[q], v)
		}
	}
}

var nan = math.NaN()

func TestQuantilesForgetWithTheClock(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	const hour = uint64(time.Hour)
	clock := 1000 * hour
	s.now = func() uint64 { return clock }
	a, b := startLocal(t, dir, 0), startLocal(t, dir, 1)
	family := windowedFamily("w", 1, 3)
	observe := func(p *local, v float64) { p.do(action{Do: "observe", Family: family, V: v, At: clock}) }
	for _, p := range []*local{a, b} {
		p.do(action{Do: "make", Family: family})
	}
	requireQuantiles(t, map[float64]float64{0.5: nan, 1: nan}, quantilesOf(t, s, "w"))
	observe(a, 1)
	observe(b, 2)
	observe(b, -3)
	clock += hour / 2
	requireQuantiles(t, map[float64]float64{0.5: 1, 1: 2}, quantilesOf(t, s, "w"))
	clock += hour / 2
	observe(a, 10)
	clock += hour
	observe(a, 0)
	requireQuantiles(t, map[float64]float64{0.5: 1, 1: 10}, quantilesOf(t, s, "w"))
	clock += hour - 1
	requireQuantiles(t, map[float64]float64{0.5: 1, 1: 10}, quantilesOf(t, s, "w"))
	clock++
	requireQuantiles(t, map[float64]float64{0.5: 0, 1: 10}, quantilesOf(t, s, "w"))
	observe(b, 5) // in the place of the first
	requireQuantiles(t, map[float64]float64{0.5: 5, 1: 10}, quantilesOf(t, s, "w"))
	clock += hour
	requireQuantiles(t, map[float64]float64{0.5: 0, 1: 5}, quantilesOf(t, s, "w"))
	clock += 100 * hour
	requireQuantiles(t, map[float64]float64{0.5: nan, 1: nan}, quantilesOf(t, s, "w"))
	summary := gatherAll(t, s)["w"].Metric[0].Summary
	assert.Equal(t, uint64(6), summary.GetSampleCount())
	assert.Equal(t, 15.0, summary.GetSampleSum())
}

func TestQuantilesAreOfTheLivingAndStayWhenTheDeadAreFolded(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	family := windowedFamily("w", 1, 5)
	observe := func(v float64) action { return action{Do: "observe", Family: family, V: v} }
	alive, dies := startLocal(t, dir, 0), startChild(t, dir, 1)
	alive.do(observe(1), observe(2), observe(3))
	dies.do(observe(100), observe(101), observe(102), observe(103))
	requireQuantiles(t, map[float64]float64{0.5: 100, 1: 103}, quantilesOf(t, s, "w"))
	dies.killSeen(dir)
	want := map[float64]float64{0.5: 2, 1: 3}
	requireQuantiles(t, want, quantilesOf(t, s, "w"))
	before := text(t, s)
	require.Equal(t, 1, mustFold(t, s))
	assert.Equal(t, before, text(t, s))
	assert.Equal(t, before, text(t, openStore(t, dir, Options{})))
	assert.Contains(t, before, "w_sum 412\nw_count 7\n")
	alive.do(action{Do: "delete", Family: family})
	assert.Empty(t, text(t, s), "and then the archive is none to show it alone")
	alive.do(observe(9))
	requireQuantiles(t, map[float64]float64{0.5: 2, 1: 9}, quantilesOf(t, s, "w"))
}

func TestQuantilesOfDeadProcessesOnly(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	leave(t, dir, 0, action{Do: "observe", Family: windowedFamily("w", 1, 5), V: 3})
	const want = "w{quantile=\"0.5\"} NaN\nw{quantile=\"1\"} NaN\nw_sum 3\nw_count 1\n"
	assert.Equal(t, want, text(t, s))
	mustFold(t, s)
	assert.Equal(t, want, text(t, s))
}

// Which quantiles there are, and of what time, is for the newest release that is ready to say.
func TestReleasesWithOtherObjectives(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	const hour = uint64(time.Hour)
	clock := 1000 * hour
	s.now = func() uint64 { return clock }
	plain, short, fine := summaryFamily("w"), windowedFamily("w", 1, 2), windowedFamily("w", 0.5, 4)
	fine.Window.Resolution, fine.Window.Age = 100, 6*time.Hour
	one, two, three := startLocal(t, dir, 0), startLocal(t, dir, 1), startLocal(t, dir, 2)
	one.do(ready)
	for _, age := range []uint64{0, 1, 2, 3} {
		for p, family := range map[*local]shmstore.Family{one: plain, two: short, three: fine} {
			at := clock - (3-age)*hour
			p.do(action{Do: "observe", Family: family, V: float64(age + 1), At: at})
		}
	}
	assert.Equal(t, "w_sum 30\nw_count 12\n", text(t, s))
	two.do(ready)
	requireQuantiles(t, map[float64]float64{0.5: 3, 1: 4}, quantilesOf(t, s, "w"))
	assert.Contains(t, text(t, s), "w_count 12\n")
	three.do(ready)
	// 1, 2, 3 and 4 of one, 3 and 4 of the other, which keeps no more.
	requireQuantiles(t, map[float64]float64{0.25: 2, 1: 4}, quantilesOf(t, s, "w"))
	assert.NotContains(t, gatherAll(t, s), nameConflicts)
	three.do(action{Do: "delete", Family: fine})
	requireQuantiles(t, map[float64]float64{0.25: 2, 1: 4}, quantilesOf(t, s, "w"))
}

// A process that changes its layout all the time is read series by series, with its windows.
func TestQuantilesOfAProcessThatNeverHoldsStill(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	p := startLocal(t, dir, 0)
	families := []shmstore.Family{summaryFamily("plain", "l"), windowedFamily("w", 1, 5, "l"), windowedFamily("x", 1, 1, "l")}
	for i := range 20 {
		for _, f := range families {
			p.do(action{Do: "observe", Family: f, Values: []string{strconv.Itoa(i % 7)}, V: float64(i)})
		}
	}
	want := text(t, s)
	require.Contains(t, want, `w{l="6",quantile="0.5"} 6`)
	for _, f := range s.files {
		f.restless, f.quiet = true, 0
	}
	for range quietLooks {
		for _, f := range s.files {
			assert.True(t, f.restless, "it may change again")
		}
		assert.Equal(t, want, text(t, s))
		assert.Nil(t, s.cells.words, "the file may be unmapped now")
		assert.Nil(t, s.cells.window)
	}
	for _, f := range s.files {
		assert.False(t, f.restless, "it holds still")
	}
	assert.Equal(t, want, text(t, s))
	assert.Nil(t, s.cells.words)
	assert.Nil(t, s.cells.window)
}

// Windows that overlap, which no writer makes, cost no more than a file of that length has to hold.
func TestOverlappingWindowsCostNoMoreThanTheFile(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	p := startLocal(t, dir, 0)
	family := windowedFamily("w", 1, 1, "l")
	for i := range 100 {
		p.do(action{Do: "observe", Family: family, Values: []string{fmt.Sprint(i)}, V: 1})
	}
	first := p.series[family.Key()+"\xff0"]
	for _, other := range p.series {
		// All have the octaves of the first, which lead to a long list.
		atomic.StoreUint64(&other.Window[quantile.WindowOctaves], atomic.LoadUint64(&first.Window[quantile.WindowOctaves]))
	}
	for octave := range uint64(quantile.Octaves) {
		if octave != 64 {
			_, err := p.w.AddOctave(first, octave)
			require.NoError(t, err)
		}
	}
	text(t, s)
	text(t, s)
	for _, f := range s.files {
		n := 0
		require.NoError(t, f.reader.Read(func(words []uint64) {
			window := f.windows(words, s.now())
			for _, d := range f.contributions {
				for e := range d.shown.each {
					n += len(window(nil, d, e.series))
				}
			}
		}))
		assert.Greater(t, n, 100, "windows were read")
		assert.Less(t, uint64(n), uint64(f.state.Reserved/4))
	}
}

// Many processes' quantiles, at random times, are those of all that counts.
func TestMergedQuantilesAreThoseOfAllObservations(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	const hour = uint64(time.Hour)
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	clock := 1000 * hour
	s.now = func() uint64 { return clock }
	family := windowedFamily("w", 0.5, 3, "l")
	family.Window.Objectives = []float64{0, 0.1, 0.5, 0.9, 1}
	var processes []*local
	for slot := range 4 {
		processes = append(processes, startLocal(t, dir, slot))
	}
	type observation struct {
		v     float64
		epoch uint64
	}
	labels := []string{"a", "b"}
	observed := map[string][]observation{}
	for range 300 {
		clock += random.Uint64N(hour / 10)
		for range 10 {
			l := labels[random.IntN(2)]
			v := math.Trunc(random.NormFloat64()*3) * math.Exp(random.NormFloat64())
			processes[random.IntN(4)].do(action{Do: "observe", Family: family, Values: []string{l}, V: v, At: clock})
			observed[l] = append(observed[l], observation{v, clock / hour})
		}
		f := gatherAll(t, s)["w"]
		for _, m := range f.Metric {
			var values []float64
			for _, o := range observed[m.Label[0].GetValue()] {
				if o.epoch+3 > clock/hour {
					values = append(values, o.v)
				}
			}
			slices.Sort(values)
			require.Len(t, m.Summary.Quantile, 5)
			for _, q := range m.Summary.Quantile {
				if len(values) == 0 {
					require.True(t, math.IsNaN(q.GetValue()))
					continue
				}
				rank := max(int(math.Ceil(q.GetQuantile()*float64(len(values)))), 1)
				want := values[rank-1]
				require.LessOrEqual(t, math.Abs(q.GetValue()-want), 0.01*math.Abs(want))
			}
		}
	}
	require.Equal(t, 2, strings.Count(text(t, s), "w_count"))
}
