package worker

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// written returns what the metric writes.
func written(t testing.TB, m prometheus.Metric) *dto.Metric {
	var out dto.Metric
	require.NoError(t, m.Write(&out))
	return &out
}

// filesIn returns the names of the processes' files in a store.
func filesIn(t testing.TB, path string) []string {
	dir, err := shmstore.OpenDir(path, shmstore.DirOptions{})
	require.NoError(t, err)
	defer dir.Close()
	names, err := dir.Names()
	require.NoError(t, err)
	return names
}

func TestValuesMove(t *testing.T) {
	r := inMemory(t)
	c := r.newCounter(copts)
	g := r.newGaugeVec(prometheus.GaugeOpts{Name: "g"}, []string{"a"}, LiveAll)
	timed := r.newGauge(prometheus.GaugeOpts{Name: "timed"}, LiveMostRecent)
	h := r.newHistogram(prometheus.HistogramOpts{Name: "h", Buckets: []float64{1, 2}})
	s := r.newSummary(prometheus.SummaryOpts{Name: "s"})
	unset := r.newGauge(prometheus.GaugeOpts{Name: "unset"}, Min)
	unsetTimed := r.newGauge(prometheus.GaugeOpts{Name: "unset_timed"}, MostRecent)
	nan := r.newGauge(prometheus.GaugeOpts{Name: "nan"}, Min)
	nan.Set(math.Float64frombits(floatMark))

	want := []float64{0, 0, 0, 0, 0, 0, 0}
	step := func() {
		c.Inc()
		c.Add(0.25)
		g.WithLabelValues("x").Add(3)
		timed.Inc()
		h.Observe(1.5)
		h.Observe(7)
		s.Observe(-2)
		for i, add := range []float64{1.25, 3, 1, 2, 8.5, 1, -2} {
			want[i] += add
		}
	}
	check := func() {
		t.Helper()
		histogram, summary := written(t, h).Histogram, written(t, s).Summary
		require.Equal(t, want, []float64{
			testutil.ToFloat64(c), testutil.ToFloat64(g.WithLabelValues("x")), testutil.ToFloat64(timed),
			float64(histogram.GetSampleCount()), histogram.GetSampleSum(),
			float64(summary.GetSampleCount()), summary.GetSampleSum(),
		})
		require.Zero(t, *unset.cells.Load(), "moving is not setting")
		require.Zero(t, *unsetTimed.cells.Load())
		require.True(t, math.IsNaN(testutil.ToFloat64(nan)))
		require.Equal(t, written(t, h).Histogram.Bucket[0].GetCumulativeCount(), uint64(0))
	}
	step()
	check()
	for range 3 {
		path := storeDir(t)
		require.NoError(t, r.open(path, 4))
		check()
		step()
		check()
		require.Len(t, filesIn(t, path), 1)
		require.NoError(t, r.open(path, 4), "the same store again")
		require.ErrorContains(t, r.open(storeDir(t), 4), "writes to "+path+" already")
		require.NoError(t, r.detach())
		require.Empty(t, filesIn(t, path))
		check()
		step()
		check()
		require.NoError(t, r.detach(), "there is nothing to detach from")
	}
}

// TestNothingIsLostWhileMoving writes to metrics of all types while they move to and fro.
func TestNothingIsLostWhileMoving(t *testing.T) {
	r := inMemory(t)
	c := r.newCounter(copts)
	g := r.newGauge(gopts, Sum)
	timed := r.newGauge(prometheus.GaugeOpts{Name: "timed"}, MostRecent)
	h := r.newHistogram(prometheus.HistogramOpts{Name: "h", Buckets: []float64{1}})
	s := r.newSummary(prometheus.SummaryOpts{Name: "s"})
	own := r.newGaugeVec(prometheus.GaugeOpts{Name: "own"}, []string{"goroutine"}, Sum)

	var stop atomic.Bool
	var rounds atomic.Int64
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		all.Go(func() {
			mine := own.WithLabelValues(name)
			for i := 0.0; !stop.Load(); i++ {
				c.Inc()
				c.Add(2)
				c.Add(0.5)
				g.Add(3)
				g.Dec()
				timed.Inc()
				h.Observe(0.5)
				h.Observe(2)
				s.Observe(4)
				mine.Set(i)
				if got := mine.value(); got != i {
					t.Errorf("%v was set and is %v", i, got)
					return
				}
				rounds.Add(1)
			}
		})
	}
	// Each move while writers run: the next one only when they have got on.
	for range 30 {
		before := rounds.Load()
		require.NoError(t, r.open(storeDir(t), 0))
		require.Eventually(t, func() bool { return rounds.Load() > before || t.Failed() }, longWait, tick)
		before = rounds.Load()
		require.NoError(t, r.detach())
		require.Eventually(t, func() bool { return rounds.Load() > before || t.Failed() }, longWait, tick)
	}
	stop.Store(true)
	all.Wait()

	n := float64(rounds.Load())
	require.Equal(t, 3.5*n, testutil.ToFloat64(c))
	require.Equal(t, 2*n, testutil.ToFloat64(g))
	require.Equal(t, n, testutil.ToFloat64(timed))
	histogram, summary := written(t, h).Histogram, written(t, s).Summary
	require.Equal(t, 2*n, float64(histogram.GetSampleCount()))
	require.Equal(t, 2.5*n, histogram.GetSampleSum())
	require.Equal(t, n, float64(histogram.Bucket[0].GetCumulativeCount()))
	require.Equal(t, n, float64(summary.GetSampleCount()))
	require.Equal(t, 4*n, summary.GetSampleSum())
}

// TestStragglers writes, as a goroutine would that read the old address before the move and got on after it.
func TestStragglers(t *testing.T) {
	r := inMemory(t)
	c := r.newCounter(copts)
	g := r.newGauge(gopts, Sum)
	h := r.newHistogram(prometheus.HistogramOpts{Name: "h", Buckets: []float64{2}})
	c.Add(10)
	g.Set(10)
	h.Observe(1)
	for _, s := range []*series{&c.series, &g.series, &h.series} {
		old := s.cells.Load()
		s.move(memoryCells(s.def.family.Words()))
		now := s.cells.Load()
		s.cells.Store(old) // a hot method loads it
		switch m := s.metric.(type) {
		case *Counter:
			require.GreaterOrEqual(t, atomic.AddUint64(s.cells.Load(), 5), uint64(integerMark))
			s.cells.Store(now)
			m.addMarked(5)
			require.EqualValues(t, 15, testutil.ToFloat64(m))
		case *Gauge:
			require.Equal(t, gaugeMark, *old)
			s.cells.Store(now)
			m.changeMarked(5, true)
			require.EqualValues(t, 15, testutil.ToFloat64(m))
			m.changeMarked(3, false)
			require.EqualValues(t, 3, testutil.ToFloat64(m))
		case *Histogram:
			require.EqualValues(t, floatMark, *old)
			s.cells.Store(now)
			m.observe(old, shmstore.HistogramBuckets, shmstore.HistogramSum, 4)
			require.EqualValues(t, 5, written(t, m).Histogram.GetSampleSum())
			require.EqualValues(t, 2, written(t, m).Histogram.GetSampleCount())
		}
	}
}

func TestValuesThatLookLikeMarks(t *testing.T) {
	for _, p := range places {
		r := p.make(t)
		mark := math.Float64frombits(floatMark)
		g := r.newGauge(gopts, Sum)
		g.Set(mark)
		require.True(t, math.IsNaN(testutil.ToFloat64(g)))
		g.Add(1)
		require.True(t, math.IsNaN(testutil.ToFloat64(g)))
		g.Set(mark)
		g.Set(4)
		require.EqualValues(t, 4, testutil.ToFloat64(g))
		s := r.newSummary(prometheus.SummaryOpts{Name: "s"})
		for range 3 {
			s.Observe(mark)
		}
		require.True(t, math.IsNaN(written(t, s).Summary.GetSampleSum()))
		require.EqualValues(t, 3, written(t, s).Summary.GetSampleCount())
	}
}
