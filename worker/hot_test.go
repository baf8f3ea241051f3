package worker

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// hotPath is every call that must not allocate, on metrics of r.
func hotPath(r *registry) map[string]func() {
	c := r.newCounter(prometheus.CounterOpts{Name: "c_total"})
	cv := r.newCounterVec(prometheus.CounterOpts{Name: "cv_total"}, []string{"a", "b"})
	curried := cv.MustCurryWith(prometheus.Labels{"a": "x"})
	g := r.newGauge(prometheus.GaugeOpts{Name: "g"}, Sum)
	timed := r.newGauge(prometheus.GaugeOpts{Name: "timed"}, MostRecent)
	gv := r.newGaugeVec(prometheus.GaugeOpts{Name: "gv"}, []string{"a"}, LiveSum)
	h := r.newHistogram(prometheus.HistogramOpts{Name: "h"})
	hv := r.newHistogramVec(prometheus.HistogramOpts{Name: "hv"}, []string{"a"})
	s := r.newSummary(prometheus.SummaryOpts{Name: "s"})
	sv := r.newSummaryVec(prometheus.SummaryOpts{Name: "sv"}, []string{"a"})
	so := r.newSummary(prometheus.SummaryOpts{Name: "so", Objectives: twoObjectives})
	so.Observe(0.3)
	labels := prometheus.Labels{"a": "x", "b": "y"}
	bytes := []byte("from a buffer")
	return map[string]func(){
		"Counter.Inc":               c.Inc,
		"Counter.Add":               func() { c.Add(3) },
		"Counter.Add fraction":      func() { c.Add(0.5) },
		"CounterVec":                func() { cv.WithLabelValues("x", "y").Inc() },
		"CounterVec of bytes":       func() { cv.WithLabelValues(string(bytes), "y").Inc() },
		"CounterVec by names":       func() { cv.With(labels).Inc() },
		"CounterVec curried":        func() { curried.WithLabelValues("y").Inc() },
		"Gauge.Set":                 func() { g.Set(4.5) },
		"Gauge.Add":                 func() { g.Add(1) },
		"Gauge.Set timed":           func() { timed.Set(4.5) },
		"GaugeVec":                  func() { gv.WithLabelValues("x").Dec() },
		"Histogram.Observe":         func() { h.Observe(0.3) },
		"HistogramVec":              func() { hv.WithLabelValues("x").Observe(0.3) },
		"Summary.Observe":           func() { s.Observe(0.3) },
		"SummaryVec":                func() { sv.WithLabelValues("x").Observe(0.3) },
		"Summary.Observe quantiles": func() { so.Observe(0.3) },
		"Counter.AddWithExemplar":   func() { c.AddWithExemplar(1, labels) },
		"Histogram.ObserveExemplar": func() { h.ObserveWithExemplar(1, labels) },
		"no exemplar":               func() { c.AddWithExemplar(1, nil); h.ObserveWithExemplar(1, nil) },
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	for _, p := range places {
		for name, call := range hotPath(p.make(t)) {
			require.Zero(t, testing.AllocsPerRun(100, call), "%s in %s", name, p.name)
		}
	}
}

// peers runs a benchmark with client_golang's metrics and with ours, in process memory and in a store.
func peers(b *testing.B, theirs func(*testing.B), ours func(*testing.B, *registry)) {
	b.Run("peer=client_golang", theirs)
	for _, p := range places {
		name := "peer=onescrape"
		if p.name == "memory" {
			name = "peer=onescrape-without-store"
		}
		b.Run(name, func(b *testing.B) { ours(b, p.make(b)) })
	}
}

func BenchmarkCounterInc(b *testing.B) {
	peers(b, func(b *testing.B) {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "c_total"})
		for b.Loop() {
			c.Inc()
		}
	}, func(b *testing.B, r *registry) {
		c := r.newCounter(prometheus.CounterOpts{Name: "c_total"})
		for b.Loop() {
			c.Inc()
		}
	})
}

func BenchmarkCounterAdd(b *testing.B) {
	for _, v := range []float64{3, 0.5} {
		b.Run(fmt.Sprint("v=", v), func(b *testing.B) {
			peers(b, func(b *testing.B) {
				c := prometheus.NewCounter(prometheus.CounterOpts{Name: "c_total"})
				for b.Loop() {
					c.Add(v)
				}
			}, func(b *testing.B, r *registry) {
				c := r.newCounter(prometheus.CounterOpts{Name: "c_total"})
				for b.Loop() {
					c.Add(v)
				}
			})
		})
	}
}

func BenchmarkGaugeSet(b *testing.B) {
	peers(b, func(b *testing.B) {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "g"})
		for b.Loop() {
			g.Set(1.5)
		}
	}, func(b *testing.B, r *registry) {
		g := r.newGauge(prometheus.GaugeOpts{Name: "g"}, Sum)
		for b.Loop() {
			g.Set(1.5)
		}
	})
}

func BenchmarkGaugeInc(b *testing.B) {
	peers(b, func(b *testing.B) {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "g"})
		for b.Loop() {
			g.Inc()
		}
	}, func(b *testing.B, r *registry) {
		g := r.newGauge(prometheus.GaugeOpts{Name: "g"}, Sum)
		for b.Loop() {
			g.Inc()
		}
	})
}

// vecLabels are what a web application counts requests by.
var vecLabels = []string{"method", "code"}

// vecValues are label sets for it.
var vecValues = func() (sets [][2]string) {
	for _, m := range []string{"GET", "POST", "PUT", "DELETE"} {
		for _, c := range []string{"200", "201", "204", "301", "302", "304", "400", "401", "403", "404", "500", "503"} {
			sets = append(sets, [2]string{m, c})
		}
	}
	return sets
}()

func BenchmarkCounterVec(b *testing.B) {
	peers(b, func(b *testing.B) {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c_total"}, vecLabels)
		for i := 0; b.Loop(); i++ {
			set := &vecValues[i%len(vecValues)]
			v.WithLabelValues(set[0], set[1]).Inc()
		}
	}, func(b *testing.B, r *registry) {
		v := r.newCounterVec(prometheus.CounterOpts{Name: "c_total"}, vecLabels)
		for i := 0; b.Loop(); i++ {
			set := &vecValues[i%len(vecValues)]
			v.WithLabelValues(set[0], set[1]).Inc()
		}
	})
}

// BenchmarkCounterVecOne is what DESIGN's figures were measured with: one label set.
func BenchmarkCounterVecOne(b *testing.B) {
	peers(b, func(b *testing.B) {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c_total"}, vecLabels)
		for b.Loop() {
			v.WithLabelValues("GET", "200").Inc()
		}
	}, func(b *testing.B, r *registry) {
		v := r.newCounterVec(prometheus.CounterOpts{Name: "c_total"}, vecLabels)
		for b.Loop() {
			v.WithLabelValues("GET", "200").Inc()
		}
	})
}

func BenchmarkCounterVecParallel(b *testing.B) {
	peers(b, func(b *testing.B) {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c_total"}, vecLabels)
		b.RunParallel(func(pb *testing.PB) {
			for i := rand.IntN(len(vecValues)); pb.Next(); i++ {
				set := &vecValues[i%len(vecValues)]
				v.WithLabelValues(set[0], set[1]).Inc()
			}
		})
	}, func(b *testing.B, r *registry) {
		v := r.newCounterVec(prometheus.CounterOpts{Name: "c_total"}, vecLabels)
		b.RunParallel(func(pb *testing.PB) {
			for i := rand.IntN(len(vecValues)); pb.Next(); i++ {
				set := &vecValues[i%len(vecValues)]
				v.WithLabelValues(set[0], set[1]).Inc()
			}
		})
	})
}

func BenchmarkCounterVecOneParallel(b *testing.B) {
	peers(b, func(b *testing.B) {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c_total"}, vecLabels)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				v.WithLabelValues("GET", "200").Inc()
			}
		})
	}, func(b *testing.B, r *registry) {
		v := r.newCounterVec(prometheus.CounterOpts{Name: "c_total"}, vecLabels)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				v.WithLabelValues("GET", "200").Inc()
			}
		})
	})
}

// latencies are observations as a web application makes them: log-normal around 30 ms, so that which bucket comes next
// cannot be foretold.
var latencies = func() (l [1 << 16]float64) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range l {
		l[i] = 0.03 * math.Exp(random.NormFloat64())
	}
	return l
}()

func benchmarkObserve(b *testing.B, next func(i int) float64) {
	peers(b, func(b *testing.B) {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h"})
		for i := 0; b.Loop(); i++ {
			h.Observe(next(i))
		}
	}, func(b *testing.B, r *registry) {
		h := r.newHistogram(prometheus.HistogramOpts{Name: "h"})
		for i := 0; b.Loop(); i++ {
			h.Observe(next(i))
		}
	})
}

func BenchmarkHistogramObserve(b *testing.B) {
	b.Run("values=lognormal", func(b *testing.B) {
		benchmarkObserve(b, func(i int) float64 { return latencies[i%len(latencies)] })
	})
	b.Run("values=one", func(b *testing.B) {
		benchmarkObserve(b, func(int) float64 { return 0.42 })
	})
}

func BenchmarkSummaryObserve(b *testing.B) {
	peers(b, func(b *testing.B) {
		s := prometheus.NewSummary(prometheus.SummaryOpts{Name: "s"})
		for b.Loop() {
			s.Observe(0.3)
		}
	}, func(b *testing.B, r *registry) {
		s := r.newSummary(prometheus.SummaryOpts{Name: "s"})
		for b.Loop() {
			s.Observe(0.3)
		}
	})
}

// twoObjectives are what DESIGN's figures were measured with.
var twoObjectives = map[float64]float64{0.5: 0.05, 0.99: 0.001}

func benchmarkSummaryObjectives(b *testing.B, next func(i int) float64) {
	opts := prometheus.SummaryOpts{Name: "s", Objectives: twoObjectives}
	peers(b, func(b *testing.B) {
		s := prometheus.NewSummary(opts)
		for i := 0; b.Loop(); i++ {
			s.Observe(next(i))
		}
	}, func(b *testing.B, r *registry) {
		s := r.newSummary(opts)
		for i := 0; b.Loop(); i++ {
			s.Observe(next(i))
		}
	})
}

func BenchmarkSummaryObserveObjectives(b *testing.B) {
	b.Run("values=lognormal", func(b *testing.B) {
		benchmarkSummaryObjectives(b, func(i int) float64 { return latencies[i%len(latencies)] })
	})
	b.Run("values=one", func(b *testing.B) {
		benchmarkSummaryObjectives(b, func(int) float64 { return 0.42 })
	})
}

// BenchmarkNeighbours adds to counters that were registered one after the other, from one goroutine and from two that
// have one each: the layout of the file keeps them off each other's cache lines.
func BenchmarkNeighbours(b *testing.B) {
	for _, goroutines := range []int{1, 2} {
		b.Run(fmt.Sprint("goroutines=", goroutines), func(b *testing.B) {
			if runtime.GOMAXPROCS(0) < goroutines {
				b.Skip("needs a processor for each")
			}
			v := inStore(b).newCounterVec(prometheus.CounterOpts{Name: "c_total"}, []string{"neighbour"})
			counters := []*Counter{v.WithLabelValues("left"), v.WithLabelValues("right")}
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(goroutines))
			var next atomic.Int32
			b.RunParallel(func(pb *testing.PB) {
				c := counters[int(next.Add(1)-1)%len(counters)]
				for pb.Next() {
					c.Inc()
				}
			})
			// One operation is one goroutine's: twice as many in the same time are no faster for any of them.
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())*float64(goroutines)/float64(b.N), "ns/inc")
		})
	}
}

// benchmarkExemplar observes with the labels of a trace, as tracing middleware does: a map made for each call.
func benchmarkExemplar(b *testing.B, observe func(prometheus.Labels)) {
	b.ReportAllocs()
	for b.Loop() {
		observe(prometheus.Labels{"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"})
	}
}

func BenchmarkAddWithExemplar(b *testing.B) {
	peers(b, func(b *testing.B) {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "c_total"}).(prometheus.ExemplarAdder)
		benchmarkExemplar(b, func(l prometheus.Labels) { c.AddWithExemplar(1, l) })
	}, func(b *testing.B, r *registry) {
		c := r.newCounter(prometheus.CounterOpts{Name: "c_total"})
		benchmarkExemplar(b, func(l prometheus.Labels) { c.AddWithExemplar(1, l) })
	})
}

func BenchmarkObserveWithExemplar(b *testing.B) {
	peers(b, func(b *testing.B) {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h"}).(prometheus.ExemplarObserver)
		benchmarkExemplar(b, func(l prometheus.Labels) { h.ObserveWithExemplar(0.3, l) })
	}, func(b *testing.B, r *registry) {
		h := r.newHistogram(prometheus.HistogramOpts{Name: "h"})
		benchmarkExemplar(b, func(l prometheus.Labels) { h.ObserveWithExemplar(0.3, l) })
	})
}

// The compiler inlines what every request calls: a call would cost more than the addition.
func TestHotMethodsAreInlined(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the package")
	}
	out, err := exec.Command("go", "build", "-gcflags=-m", "-o", os.DevNull, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, method := range []string{"(*Counter).Inc", "(*Gauge).Inc", "(*Gauge).Dec", "(*Gauge).Sub"} {
		require.Contains(t, string(out), "can inline "+method+"\n")
	}
}
