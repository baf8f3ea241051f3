package worker

import (
	"math"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore/quantile"
)

// testClock is the clock of a registry that stands still until a test moves it.
type testClock struct {
	r  *registry
	at uint64
}

func stopClock(r *registry) *testClock {
	c := &testClock{r, uint64(1000 * time.Hour)}
	r.clocks = newSliceClocks(func() uint64 { return c.at }, func(c *sliceClock) { c.set() })
	return c
}

// move moves the clock, and the timers with it.
func (c *testClock) move(d time.Duration) {
	c.at += uint64(d)
	for _, clock := range c.r.clocks.byLength {
		clock.set()
	}
}

// quantileOf returns a quantile that m writes.
func quantileOf(t testing.TB, m prometheus.Metric, q float64) float64 {
	t.Helper()
	for _, x := range written(t, m).Summary.Quantile {
		if x.GetQuantile() == q {
			return x.GetValue()
		}
	}
	require.Fail(t, "there is no such quantile")
	return 0
}

// observed returns how many observations m's window holds.
func observed(s *Summary) (n uint64) {
	for place := range s.window.shape.Slices {
		at := quantile.WindowSlices + place*quantile.SliceWords
		for i := quantile.SliceZero; i < quantile.SliceWords; i++ {
			n += *word(s.window.block.Load(), at+i)
		}
		for i := range s.window.octaves {
			if p := s.window.octaves[i].Load(); p != nil && !s.window.overflowed(p) {
				for _, c := range s.window.counts(p, place) {
					n += c
				}
			}
		}
	}
	return n
}

var windowOpts = prometheus.SummaryOpts{
	Name: "s", Objectives: map[float64]float64{0.99: 0.001, 0.5: 0.05, 0: 0, 1: 0}, MaxAge: 50 * time.Second,
}

func TestQuantilesOfTheProcess(t *testing.T) {
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			r := p.make(t)
			s := r.newSummary(windowOpts)
			check := func(want ...float64) {
				t.Helper()
				got := written(t, s).Summary.Quantile
				require.Len(t, got, 4)
				for i, q := range []float64{0, 0.5, 0.99, 1} {
					require.Equal(t, q, got[i].GetQuantile())
					if v := got[i].GetValue(); math.IsNaN(want[i]) || math.IsInf(want[i], 0) {
						require.Equal(t, math.Float64bits(want[i]), math.Float64bits(v))
					} else {
						require.InDelta(t, want[i], v, 0.01*math.Abs(want[i]))
					}
				}
			}
			nan, inf := math.NaN(), math.Inf(1)
			check(nan, nan, nan, nan)
			s.Observe(nan)
			check(nan, nan, nan, nan)
			s.Observe(0)
			check(0, 0, 0, 0)
			for i := range 1000 {
				s.Observe(float64(i + 1))
				s.Observe(-float64(i + 1))
			}
			check(-1000, 0, 980, 1000)
			s.Observe(-inf)
			s.Observe(1e300)
			check(-inf, 0, 981, inf)
			require.EqualValues(t, 2004, written(t, s).Summary.GetSampleCount())
		})
	}
}

// What client_golang's registry and ours write differs in no way but the values.
func TestSummaryWithObjectivesIsWrittenAsClientGolangDoes(t *testing.T) {
	opts := prometheus.SummaryOpts{Name: "s", Help: "A help.", Objectives: map[float64]float64{0.9: 0.01, 0.1: 0.1}}
	r := inMemory(t)
	ours := r.newSummaryVec(opts, []string{"l"})
	theirs := prometheus.NewSummaryVec(opts, []string{"l"})
	registry := prometheus.NewRegistry()
	registry.MustRegister(theirs)
	for _, v := range []prometheus.ObserverVec{ours, theirs} {
		v.WithLabelValues("empty")
		v.WithLabelValues("zeros").Observe(0)
	}
	texts := make([]string, 2)
	for i, g := range []prometheus.Gatherer{registry, gatherer{r}} {
		families, err := g.Gather()
		require.NoError(t, err)
		for _, m := range families[0].Metric {
			m.Summary.CreatedTimestamp = nil
		}
		texts[i] = strings.ReplaceAll(families[0].String(), "  ", " ")
	}
	require.Equal(t, texts[0], texts[1])
}

func TestObservationsAreForgottenSliceBySlice(t *testing.T) {
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			r := p.make(t)
			clock := stopClock(r)
			s := r.newSummary(windowOpts)
			most := func() float64 { t.Helper(); return quantileOf(t, s, 1) }
			for i := range 100 {
				s.Observe(float64(100 - i))
				require.InDelta(t, 100-max(0, i-4), most(), 1)
				clock.move(10*time.Second - 1)
				require.InDelta(t, 100-max(0, i-4), most(), 1, "to the end of the slice")
				clock.move(1)
			}
			clock.move(30 * time.Second)
			require.InDelta(t, 1, most(), 0.01)
			clock.move(10 * time.Second)
			require.True(t, math.IsNaN(most()))
			clock.move(1000 * time.Hour)
			s.Observe(-7)
			require.InDelta(t, -7, most(), 0.07)
			require.Equal(t, most(), quantileOf(t, s, 0), "there is no other")
			require.EqualValues(t, 101, written(t, s).Summary.GetSampleCount())
		})
	}
}

func TestTheClockOfSlicesGoes(t *testing.T) {
	r := inMemory(t)
	s := r.newSummary(prometheus.SummaryOpts{Name: "s", Objectives: map[float64]float64{1: 0}, MaxAge: 1})
	other := r.newSummary(prometheus.SummaryOpts{Name: "o", Objectives: map[float64]float64{1: 0}, MaxAge: 1})
	require.Same(t, s.window.clock, other.window.clock)
	require.EqualValues(t, time.Millisecond, s.window.shape.SliceLength(), "MaxAge is stretched")
	begun := s.window.clock.epoch.Load()
	s.Observe(1)
	require.Eventually(t, func() bool {
		return s.window.clock.epoch.Load() > begun+10 && math.IsNaN(quantileOf(t, s, 1))
	}, time.Minute, time.Millisecond)
}

func TestWindowOfOptions(t *testing.T) {
	objectives := map[float64]float64{0.5: 0.1, math.NaN(): 0, 0.25: 0}
	require.Nil(t, windowOf(prometheus.SummaryOpts{MaxAge: time.Second}))
	require.Equal(t, &quantile.Window{Objectives: []float64{0.25, 0.5}, Age: 10 * time.Minute, Slices: 5, Resolution: 35},
		windowOf(prometheus.SummaryOpts{Objectives: objectives}))
	w := windowOf(prometheus.SummaryOpts{Objectives: objectives, MaxAge: time.Minute, AgeBuckets: 1 << 31})
	require.Equal(t, quantile.MaxSlices, w.Slices)
	require.Equal(t, time.Minute, w.Age)

	r := inMemory(t)
	require.NotPanics(t, func() { r.newSummary(windowOpts) })
	require.NotPanics(t, func() { r.newSummary(windowOpts) })
	other := windowOpts
	other.Objectives = map[float64]float64{0.75: 0.1}
	require.PanicsWithError(t, `a previously registered descriptor with the same fully-qualified name as `+
		r.newSummary(windowOpts).Desc().String()+` has the objectives [0 0.5 0.99 1] of 50s in 5 slices, 35 buckets an `+
		`octave, not [0.75] of 50s in 5 slices, 35 buckets an octave`, func() { r.newSummary(other) })
}

// No observation of a window gets lost when it moves, whoever observes meanwhile.
func TestWindowMovesWhileItIsWrittenTo(t *testing.T) {
	r := inMemory(t)
	clock := stopClock(r)
	s := r.newSummary(windowOpts)
	var wg sync.WaitGroup
	const goroutines, each = 4, 20000
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				switch i % 10 {
				case 0:
					s.Observe(0)
				case 1:
					s.Observe(math.Inf(g%2*2 - 1))
				default:
					s.Observe(math.Ldexp(float64(g-2), i%100-50))
				}
			}
		})
	}
	for i := range 20 {
		require.NoError(t, r.open(storeDir(t), 0))
		if i == 10 {
			clock.move(10 * time.Second)
		}
		require.NoError(t, r.detach())
	}
	wg.Wait()
	require.EqualValues(t, goroutines*each, observed(s))
	require.EqualValues(t, goroutines*each, written(t, s).Summary.GetSampleCount())
	require.NoError(t, r.open(storeDir(t), 0))
	require.EqualValues(t, goroutines*each, observed(s))
}

// Slices turn, are read and merged while goroutines observe: nothing tears, and nothing that cannot be comes out.
func TestSlicesTurnWhileTheyAreWrittenTo(t *testing.T) {
	r := inStore(t)
	opts := prometheus.SummaryOpts{Name: "s", Objectives: map[float64]float64{0: 0, 0.5: 0, 1: 0}, MaxAge: 5 * time.Millisecond}
	s := r.newSummary(opts)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					s.Observe(float64(1 + i%1000))
				}
			}
		})
	}
	store, err := aggregate.Open(r.binding.dir.Path(), aggregate.Options{ReadOnly: true})
	require.NoError(t, err)
	defer store.Close()
	within := func(m *dto.Metric) bool {
		for _, q := range m.Summary.Quantile {
			v := q.GetValue()
			if math.IsNaN(v) {
				return false
			}
			require.GreaterOrEqual(t, v, 0.99)
			require.LessOrEqual(t, v, 1010.0)
		}
		return true
	}
	last := s.window.clock.epoch.Load()
	found, deadline := 0, time.Now().Add(time.Minute)
	for turns := 0; turns < 20 || found < 20; {
		require.True(t, time.Now().Before(deadline), "%d turns, %d with quantiles", turns, found)
		if e := s.window.clock.epoch.Load(); e != last {
			turns, last = turns+1, e
		}
		families, err := store.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "s" && within(f.Metric[0]) {
				found++
			}
		}
		within(written(t, s))
	}
	close(stop)
	wg.Wait()
}

func TestWindowThatGetsNoSpace(t *testing.T) {
	r := inMemory(t)
	clock := stopClock(r)
	log := r.logTo()
	r.binding.limit = 64 << 10
	require.NoError(t, r.open(storeDir(t), 0))
	s := r.newSummary(windowOpts)
	for i := range 128 {
		s.Observe(math.Ldexp(1, i-64))
		s.Observe(math.Ldexp(-1, i-64))
	}
	n := observed(s)
	require.Greater(t, n, uint64(20))
	require.Less(t, n, uint64(256))
	require.Equal(t, 1, strings.Count(log.String(), "\n"), log)
	require.Contains(t, log.String(), "the store has no space for some observations of a summary")
	require.EqualValues(t, 256, written(t, s).Summary.GetSampleCount())
	require.InDelta(t, 0x1p-64, quantileOf(t, s, 0.5), 0x1p-60, "what has space is right")

	clock.move(10 * time.Second)
	s.Observe(-math.Ldexp(1, 63))
	require.EqualValues(t, n, observed(s), "there is still none")
	require.NoError(t, r.detach())
	s.Observe(-math.Ldexp(1, 63))
	require.EqualValues(t, n+1, observed(s))
	require.Equal(t, 1, strings.Count(log.String(), "\n"), log)

	// A series that finds no space at all is in process memory, with its window.
	require.NoError(t, r.open(storeDir(t), 0))
	v := r.newSummaryVec(prometheus.SummaryOpts{Name: "v", Objectives: windowOpts.Objectives}, []string{"l"})
	for i := range 1000 {
		v.WithLabelValues(strconv.Itoa(i)).Observe(1)
	}
	lost := 0
	for s := range v.def.table.Load().all() {
		if s.stored == nil {
			lost++
			require.InDelta(t, 1, quantileOf(t, s.metric, 0.5), 0.01)
		}
	}
	require.NotZero(t, lost)
}

func TestDeletedSummaryKeepsItsWindow(t *testing.T) {
	r := inStore(t)
	stopClock(r)
	v := r.newSummaryVec(windowOpts, []string{"l"})
	old := v.WithLabelValues("x").(*Summary)
	old.Observe(1)
	require.True(t, v.DeleteLabelValues("x"))
	next := v.WithLabelValues("x").(*Summary)
	old.Observe(1000)
	next.Observe(5)
	require.InDelta(t, 5, quantileOf(t, next, 1), 0.05)
	require.InDelta(t, 1000, quantileOf(t, old, 1), 10)
}
