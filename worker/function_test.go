package worker

import (
	"math"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore"
)

// value is a float64 that a test sets and a function returns.
type value struct{ bits atomic.Uint64 }

func (v *value) set(f float64)  { v.bits.Store(math.Float64bits(f)) }
func (v *value) float() float64 { return math.Float64frombits(v.bits.Load()) }

// storeOf opens the registry's store as another process would.
func storeOf(t *testing.T, r *registry) *aggregate.Store {
	s, err := aggregate.Open(r.binding.dir.Path(), aggregate.Options{ReadOnly: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// sampled returns the text of what a store has under these names, without comments.
func sampled(t *testing.T, s *aggregate.Store, names ...string) string {
	var b, out strings.Builder
	require.NoError(t, s.WriteText(&b, names...))
	for line := range strings.Lines(b.String()) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "onescrape_") {
			out.WriteString(line)
		}
	}
	return out.String()
}

func TestFunctionsWithoutStore(t *testing.T) {
	r := inMemory(t)
	var v value
	g := r.newGaugeFunc(prometheus.GaugeOpts{Name: "g", Help: "A."}, LiveSum, v.float)
	c := r.newCounterFunc(prometheus.CounterOpts{Name: "c_total"}, v.float)
	u := r.newUntypedFunc(prometheus.UntypedOpts{Name: "u", ConstLabels: prometheus.Labels{"k": "v"}}, Max, v.float)
	timed := r.newGaugeFunc(prometheus.GaugeOpts{Name: "timed"}, MostRecent, v.float)
	for _, set := range []float64{0.1, 0.3, 7, 1e300} {
		v.set(set)
		for _, m := range []prometheus.Collector{g, c, u, timed} {
			require.Equal(t, set, testutil.ToFloat64(m), "read when it is gathered, to the bit")
		}
	}
	v.set(2)
	want := `# HELP c_total 
# TYPE c_total counter
c_total 1e+300
# HELP g A.
# TYPE g gauge
g 2
# HELP timed 
# TYPE timed gauge
timed 2
# HELP u 
# TYPE u untyped
u{k="v"} 2
`
	require.Equal(t, want, onescrape("memory", r).text(t))
	require.Equal(t, want, get(r.handler(aggregate.HandlerOptions{}), "/metrics").Body.String())
}

// What the functions return moves into the store, is published there, and comes back.
func TestFunctionsWithStore(t *testing.T) {
	r := inMemory(t)
	var v value
	calls := atomic.Int64{}
	r.newGaugeFunc(prometheus.GaugeOpts{Name: "g"}, LiveSum, func() float64 { calls.Add(1); return v.float() })
	r.newGaugeFunc(prometheus.GaugeOpts{Name: "recent"}, MostRecent, v.float)
	r.newCounterFunc(prometheus.CounterOpts{Name: "c_total"}, v.float)
	r.newUntypedFunc(prometheus.UntypedOpts{Name: "u"}, Max, v.float)
	v.set(3)
	require.NoError(t, r.open(storeDir(t), 0))
	s := storeOf(t, r)
	shows := func(text string) {
		t.Helper()
		require.Eventually(t, func() bool { return sampled(t, s) == text }, longWait, tick, "%s", text)
	}
	shows("c_total 3\ng 3\nrecent 3\nu 3\n")
	v.set(4.5)
	r.storeReady() // has it published
	shows("c_total 4.5\ng 4.5\nrecent 4.5\nu 4.5\n")
	v.set(1)
	publishNow(r)
	shows("c_total 4.5\ng 1\nrecent 1\nu 1\n")
	v.set(2)
	publishNow(r)
	shows("c_total 5.5\ng 2\nrecent 2\nu 2\n")
	before := calls.Load()
	for range 10 {
		sampled(t, s)
	}
	require.LessOrEqual(t, calls.Load(), before+1, "no scrape calls a function")

	require.NoError(t, r.detach())
	require.Equal(t, "c_total 5.5\n", strings.Join(strings.SplitAfter(onescrape("", r).text(t), "\n")[2:3], ""))
	require.NoError(t, r.open(storeDir(t), 0))
	s = storeOf(t, r)
	shows("c_total 5.5\ng 2\nrecent 2\nu 2\n")
}

// publishNow is what the end of a worker does.
func publishNow(r *registry) { r.publishLast(contextOf(longWait)) }

func TestFunctionThatPanics(t *testing.T) {
	for _, p := range places {
		r := p.make(t)
		log := r.logTo()
		var v value
		f := func() float64 {
			if v.float() < 0 {
				panic("no value")
			}
			return v.float()
		}
		g := r.newGaugeFunc(prometheus.GaugeOpts{Name: "g"}, Sum, f)
		c := r.newCounterFunc(prometheus.CounterOpts{Name: "c_total"}, f)
		v.set(5)
		publishNow(r)
		require.Equal(t, 5.0, testutil.ToFloat64(g))
		require.Equal(t, 5.0, testutil.ToFloat64(c))
		v.set(-1)
		for range 3 {
			publishNow(r)
			require.Equal(t, 5.0, testutil.ToFloat64(g))
			require.Equal(t, 5.0, testutil.ToFloat64(c))
		}
		require.Equal(t, 2, strings.Count(log.String(), "panicked"), log)
		v.set(6)
		require.Equal(t, 6.0, testutil.ToFloat64(g))
		require.Equal(t, 6.0, testutil.ToFloat64(c))
	}
}

func TestCounterFuncRefuses(t *testing.T) {
	r := inStore(t)
	log := r.logTo()
	var v value
	c := r.newCounterFunc(prometheus.CounterOpts{Name: "c_total"}, v.float)
	v.set(3)
	require.Equal(t, 3.0, testutil.ToFloat64(c))
	for _, bad := range []float64{math.NaN(), math.Inf(1), -1} {
		v.set(bad)
		require.Equal(t, 3.0, testutil.ToFloat64(c))
	}
	require.Equal(t, 1, strings.Count(log.String(), "finite values only"), log)
}

func TestFunctionsAreDefinedOnce(t *testing.T) {
	for _, p := range places {
		r := p.make(t)
		zero := func() float64 { return 0 }
		gauge, counter := prometheus.GaugeOpts{Name: "g"}, prometheus.CounterOpts{Name: "c_total"}
		r.newGaugeFunc(gauge, Sum, zero)
		r.newCounterFunc(counter, zero)
		r.newGauge(prometheus.GaugeOpts{Name: "other"}, Sum)
		for name, define := range map[string]func(){
			"gauge function again":   func() { r.newGaugeFunc(gauge, Sum, zero) },
			"gauge":                  func() { r.newGauge(gauge, Sum) },
			"counter function again": func() { r.newCounterFunc(counter, zero) },
			"counter":                func() { r.newCounter(counter) },
			"function of a gauge":    func() { r.newGaugeFunc(prometheus.GaugeOpts{Name: "other"}, Sum, zero) },
		} {
			var again prometheus.AlreadyRegisteredError
			require.ErrorAs(t, panicOf(define), &again, name)
		}
		require.ErrorContains(t, panicOf(func() { r.newGaugeFunc(gauge, Max, zero) }), "gauge mode sum, not max")
		require.ErrorContains(t, panicOf(func() { r.newGaugeFunc(prometheus.GaugeOpts{Name: "m"}, 0, zero) }), "no mode")
		require.ErrorContains(t, panicOf(func() { r.newUntypedFunc(prometheus.UntypedOpts{Name: "g"}, Sum, zero) }),
			"has the type gauge, not untyped")
		one, two := gauge, gauge
		one.Name, two.Name = "k", "k"
		one.ConstLabels, two.ConstLabels = prometheus.Labels{"a": "1"}, prometheus.Labels{"a": "2"}
		r.newGaugeFunc(one, Sum, zero)
		r.newGauge(two, Sum).Set(1)
	}
}

func TestInfo(t *testing.T) {
	for _, p := range places {
		r := p.make(t)
		opts := prometheus.GaugeOpts{Name: "app_info", Help: "What runs.", ConstLabels: prometheus.Labels{"a": "1", "b": "1"}}
		g := r.newInfo(opts, prometheus.Labels{"b": "2", "version": "v1"})
		require.Same(t, g, r.newInfo(opts, prometheus.Labels{"b": "2", "version": "v1"}))
		require.Equal(t, prometheus.Labels{"a": "1", "b": "1"}, opts.ConstLabels)
		r.newInfo(prometheus.GaugeOpts{Name: "plain_info"}, nil)
		require.Equal(t, `# HELP app_info What runs.
# TYPE app_info gauge
app_info{a="1",b="2",version="v1"} 1
# HELP plain_info 
# TYPE plain_info gauge
plain_info 1
`, onescrape(p.name, r).text(t))
	}
}

// A counter's cells are read while they are written: what is read never falls, and at the end it is the value.
func TestStoreCounterRisesToReaders(t *testing.T) {
	cells := make([]uint64, shmstore.CounterWords)
	read := func() float64 {
		return math.Float64frombits(atomic.LoadUint64(&cells[shmstore.CounterFloat])) +
			float64(atomic.LoadUint64(&cells[shmstore.CounterInteger]))
	}
	done := make(chan struct{})
	fell := make(chan float64, 1)
	go func() {
		defer close(fell)
		last := 0.0
		for {
			v := read()
			if v < last {
				fell <- v
				return
			}
			last = v
			select {
			case <-done:
				return
			default:
			}
		}
	}()
	for _, v := range []float64{0, 1, 2, 1000, 1000.5, 1001, 1001.25, 4096, 1<<52 + .5, 1 << 53, 1<<60 + 1<<20, 1e300} {
		storeCounter(cells, v)
		require.Equal(t, v, read())
	}
	close(done)
	v, bad := <-fell
	require.False(t, bad, "fell to %v", v)
}

func TestRise(t *testing.T) {
	var v resetAdjusted
	for _, c := range [][2]float64{{.1, .1}, {.3, .3}, {.3, .3}, {5, 5}, {4.9, 5}, {5.9, 6}, {0, 6}, {7, 13}} {
		v.follow(c[0])
		require.Equal(t, c[1], v.total)
	}
	var n resetAdjustedCount
	for _, c := range [][2]uint64{{3, 3}, {3, 3}, {10, 10}, {2, 10}, {3, 11}, {0, 11}, {20, 31}} {
		require.Equal(t, n.old > c[0], n.follow(c[0]))
		require.Equal(t, c[1], n.total)
	}
	var sum resetAdjusted
	for _, c := range []struct {
		v     float64
		began bool
		want  float64
	}{{3, false, 3}, {-2, false, -2}, {1, true, -2}, {2, false, -1}, {math.NaN(), false, math.NaN()}} {
		sum.followSum(c.v, c.began)
		if math.IsNaN(c.want) {
			require.True(t, math.IsNaN(sum.total))
		} else {
			require.Equal(t, c.want, sum.total)
		}
	}
}

// withFunctions defines a function metric of each kind and mode and returns how many.
func withFunctions(r *registry, f func() float64) int {
	modes := []GaugeMode{All, LiveAll, Sum, LiveSum, Min, LiveMin, Max, LiveMax, Avg, LiveAvg, MostRecent, LiveMostRecent}
	for _, mode := range modes {
		r.newGaugeFunc(prometheus.GaugeOpts{Name: "g_" + mode.String()}, mode, f)
		r.newUntypedFunc(prometheus.UntypedOpts{Name: "u_" + mode.String()}, mode, f)
	}
	r.newCounterFunc(prometheus.CounterOpts{Name: "c_total"}, f)
	return 2*len(modes) + 1
}

func TestFunctionIsAbsentBeforeItsFirstValue(t *testing.T) {
	r := inStore(t)
	s := storeOf(t, r)
	release := make(chan struct{})
	n := withFunctions(r, func() float64 { <-release; return 7 })
	require.Empty(t, sampled(t, s))
	close(release)
	publishNow(r)
	text := sampled(t, s)
	require.Equal(t, n, strings.Count(text, " 7\n"), text)
	require.Equal(t, n, strings.Count(text, "\n"), text)
}

func TestFunctionWithoutValueIsAbsent(t *testing.T) {
	for _, p := range places {
		r := p.make(t)
		r.logTo()
		withFunctions(r, func() float64 { panic("no value yet") })
		r.newCounterFunc(prometheus.CounterOpts{Name: "refused_total"}, func() float64 { return -1 })
		publishNow(r)
		require.Empty(t, onescrape(p.name, r).text(t))
		// It stays so when the metrics move.
		require.NoError(t, r.detach())
		require.NoError(t, r.open(storeDir(t), 0))
		publishNow(r)
		require.Empty(t, sampled(t, storeOf(t, r)))
	}
}

// publishers returns how many goroutines publish.
func publishers() int {
	buf := make([]byte, 16<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "(*publisher).run(")
}

func TestNoGoroutinesWithoutStore(t *testing.T) {
	r := inMemory(t)
	becomes := func(n int, why string) {
		t.Helper()
		require.Eventually(t, func() bool { return publishers() == n }, longWait, tick, why)
	}
	becomes(0, "when those of the tests before have ended")
	withFunctions(r, func() float64 { return 1 })
	mustExport(t, r, prometheus.NewRegistry(), ExportOptions{})
	require.Zero(t, publishers())
	require.NoError(t, r.open(storeDir(t), 0))
	becomes(2, "with a store")
	require.NoError(t, r.detach())
	becomes(0, "without the store")
	require.NoError(t, r.open(storeDir(t), 0))
	becomes(2, "with a store again")
}
