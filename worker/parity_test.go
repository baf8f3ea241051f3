package worker

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"
)

// library is what the same test runs on twice: client_golang with a registry of its own, and this package.
type library struct {
	name         string
	counter      func(prometheus.CounterOpts) prometheus.Counter
	gauge        func(prometheus.GaugeOpts) prometheus.Gauge
	histogram    func(prometheus.HistogramOpts) prometheus.Histogram
	summary      func(prometheus.SummaryOpts) prometheus.Summary
	counterVec   func(prometheus.CounterOpts, ...string) anyVec
	gaugeVec     func(prometheus.GaugeOpts, ...string) anyVec
	histogramVec func(prometheus.HistogramOpts, ...string) anyVec
	summaryVec   func(prometheus.SummaryOpts, ...string) anyVec
	prometheus.Gatherer
}

// anyVec is a vector of any type of either library.
type anyVec struct {
	values    func(...string) any
	labels    func(prometheus.Labels) any
	getValues func(...string) (any, error)
	getLabels func(prometheus.Labels) (any, error)
	curry     func(prometheus.Labels) (anyVec, error)
	vector
}

type vector interface {
	prometheus.Collector
	Delete(prometheus.Labels) bool
	DeleteLabelValues(...string) bool
	DeletePartialMatch(prometheus.Labels) int
	Reset()
}

func asAny[M any, V interface {
	vector
	WithLabelValues(...string) M
	With(prometheus.Labels) M
	GetMetricWithLabelValues(...string) (M, error)
	GetMetricWith(prometheus.Labels) (M, error)
}](v V, curry func(V, prometheus.Labels) (V, error)) anyVec {
	return anyVec{
		values:    func(lvs ...string) any { return v.WithLabelValues(lvs...) },
		labels:    func(l prometheus.Labels) any { return v.With(l) },
		getValues: func(lvs ...string) (any, error) { return v.GetMetricWithLabelValues(lvs...) },
		getLabels: func(l prometheus.Labels) (any, error) { return v.GetMetricWith(l) },
		curry: func(l prometheus.Labels) (anyVec, error) {
			c, err := curry(v, l)
			if err != nil {
				return anyVec{}, err
			}
			return asAny(c, curry), nil
		},
		vector: v,
	}
}

func curryObservers[V interface {
	CurryWith(prometheus.Labels) (prometheus.ObserverVec, error)
}](v V, l prometheus.Labels) (V, error) {
	c, err := v.CurryWith(l)
	if err != nil {
		var none V
		return none, err
	}
	return c.(V), nil
}

func clientGolang() library {
	reg := prometheus.NewPedanticRegistry()
	auto := promauto.With(reg)
	return library{
		name:      "client_golang",
		counter:   auto.NewCounter,
		gauge:     auto.NewGauge,
		histogram: auto.NewHistogram,
		summary:   auto.NewSummary,
		counterVec: func(o prometheus.CounterOpts, l ...string) anyVec {
			return asAny(auto.NewCounterVec(o, l), (*prometheus.CounterVec).CurryWith)
		},
		gaugeVec: func(o prometheus.GaugeOpts, l ...string) anyVec {
			return asAny(auto.NewGaugeVec(o, l), (*prometheus.GaugeVec).CurryWith)
		},
		histogramVec: func(o prometheus.HistogramOpts, l ...string) anyVec {
			return asAny(auto.NewHistogramVec(o, l), curryObservers)
		},
		summaryVec: func(o prometheus.SummaryOpts, l ...string) anyVec {
			return asAny(auto.NewSummaryVec(o, l), curryObservers)
		},
		Gatherer: reg,
	}
}

func onescrape(name string, r *registry) library {
	return library{
		name:      name,
		counter:   func(o prometheus.CounterOpts) prometheus.Counter { return r.newCounter(o) },
		gauge:     func(o prometheus.GaugeOpts) prometheus.Gauge { return r.newGauge(o, Sum) },
		histogram: func(o prometheus.HistogramOpts) prometheus.Histogram { return r.newHistogram(o) },
		summary:   func(o prometheus.SummaryOpts) prometheus.Summary { return r.newSummary(o) },
		counterVec: func(o prometheus.CounterOpts, l ...string) anyVec {
			return asAny(r.newCounterVec(o, l), (*CounterVec).CurryWith)
		},
		gaugeVec: func(o prometheus.GaugeOpts, l ...string) anyVec {
			return asAny(r.newGaugeVec(o, l, Sum), (*GaugeVec).CurryWith)
		},
		histogramVec: func(o prometheus.HistogramOpts, l ...string) anyVec {
			return asAny(r.newHistogramVec(o, l), curryObservers)
		},
		summaryVec: func(o prometheus.SummaryOpts, l ...string) anyVec {
			return asAny(r.newSummaryVec(o, l), curryObservers)
		},
		Gatherer: gatherer{r},
	}
}

// text returns what a scrape of the library's metrics shows, without our own families.
func (l library) text(t *testing.T) string {
	families, err := l.Gather()
	require.NoError(t, err)
	var b bytes.Buffer
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "onescrape_") {
			_, err := expfmt.MetricFamilyToText(&b, f)
			require.NoError(t, err)
			for _, m := range f.Metric {
				if lines := exemplarLines(m); lines != nil {
					fmt.Fprintln(&b, lines)
				}
			}
		}
	}
	return b.String()
}

// outcome is what f prints or panics with.
func outcome(f func(say func(...any))) (said string) {
	var b strings.Builder
	defer func() {
		if p := recover(); p != nil {
			_, isError := p.(error)
			fmt.Fprintf(&b, "panic(error=%t): %v\n", isError, p)
		}
		said = b.String()
	}()
	f(func(what ...any) { fmt.Fprintln(&b, what...) })
	return
}

var (
	copts = prometheus.CounterOpts{Name: "m_total", Help: "A help."}
	gopts = prometheus.GaugeOpts{Name: "m", Help: "A help."}
	hopts = prometheus.HistogramOpts{Name: "m", Help: "A help.", Buckets: []float64{1, 2}}
	sopts = prometheus.SummaryOpts{Name: "m", Help: "A help."}
)

const notUTF8 = "\xff"

var parity = map[string]func(l library, say func(...any)){
	"counter": func(l library, _ func(...any)) {
		c := l.counter(copts)
		c.Inc()
		c.Add(41)
		c.Add(0.5)
		c.Add(1 << 60)
	},
	"counter at zero":         func(l library, _ func(...any)) { l.counter(copts) },
	"counter decreases":       func(l library, _ func(...any)) { l.counter(copts).Add(-1) },
	"counter decreases a bit": func(l library, _ func(...any)) { l.counter(copts).Add(-1e-300) },
	"gauge": func(l library, _ func(...any)) {
		g := l.gauge(gopts)
		g.Inc()
		g.Add(2.5)
		g.Dec()
		g.Sub(0.25)
	},
	"gauge at zero":  func(l library, _ func(...any)) { l.gauge(gopts) },
	"gauge is NaN":   func(l library, _ func(...any)) { l.gauge(gopts).Set(math.NaN()) },
	"gauge is -Inf":  func(l library, _ func(...any)) { l.gauge(gopts).Set(math.Inf(-1)) },
	"gauge is set":   func(l library, _ func(...any)) { g := l.gauge(gopts); g.Set(1); g.Set(-7) },
	"gauge and time": func(l library, _ func(...any)) { g := l.gauge(gopts); g.SetToCurrentTime(); g.Set(1) },
	"histogram": func(l library, _ func(...any)) {
		h := l.histogram(hopts)
		for _, v := range []float64{-1, 0, 1, math.Nextafter(1, 2), 2, 3, math.MaxFloat64, math.SmallestNonzeroFloat64} {
			h.Observe(v)
		}
	},
	"histogram at zero": func(l library, _ func(...any)) { l.histogram(hopts) },
	"histogram of NaN":  func(l library, _ func(...any)) { h := l.histogram(hopts); h.Observe(math.NaN()); h.Observe(1) },
	"histogram of Inf":  func(l library, _ func(...any)) { h := l.histogram(hopts); h.Observe(math.Inf(1)) },
	"histogram of -Inf": func(l library, _ func(...any)) { h := l.histogram(hopts); h.Observe(math.Inf(-1)) },
	"default buckets": func(l library, _ func(...any)) {
		h := l.histogram(prometheus.HistogramOpts{Name: "m", Help: "A help."})
		for _, v := range prometheus.DefBuckets {
			h.Observe(v)
			h.Observe(math.Nextafter(v, 100))
		}
	},
	"many buckets": func(l library, _ func(...any)) {
		bounds := prometheus.LinearBuckets(-10, 0.5, 100)
		h := l.histogram(prometheus.HistogramOpts{Name: "m", Help: "A help.", Buckets: bounds})
		for _, v := range append(bounds, -11, 100, math.NaN(), 0.1) {
			h.Observe(v)
		}
	},
	"buckets with +Inf": func(l library, _ func(...any)) {
		l.histogram(prometheus.HistogramOpts{Name: "m", Buckets: []float64{1, math.Inf(1)}}).Observe(2)
	},
	"bucket +Inf alone": func(l library, _ func(...any)) {
		l.histogram(prometheus.HistogramOpts{Name: "m", Buckets: []float64{math.Inf(1)}}).Observe(2)
	},
	"buckets out of order": func(l library, _ func(...any)) {
		l.histogram(prometheus.HistogramOpts{Name: "m", Buckets: []float64{1, 3, 2}})
	},
	"buckets twice": func(l library, _ func(...any)) {
		l.histogram(prometheus.HistogramOpts{Name: "m", Buckets: []float64{1, 1}})
	},
	"summary": func(l library, _ func(...any)) {
		s := l.summary(sopts)
		s.Observe(1)
		s.Observe(-2.5)
	},
	"summary at zero": func(l library, _ func(...any)) { l.summary(sopts) },
	"summary of NaN":  func(l library, _ func(...any)) { l.summary(sopts).Observe(math.NaN()) },
	"summary of negative age": func(l library, _ func(...any)) {
		l.summary(prometheus.SummaryOpts{Name: "m", MaxAge: -1})
	},

	"no name": func(l library, _ func(...any)) { l.counter(prometheus.CounterOpts{}) },
	"namespace, subsystem": func(l library, _ func(...any)) {
		l.gauge(prometheus.GaugeOpts{Namespace: "a", Subsystem: "b", Name: "c"})
	},
	"name is not UTF-8":     func(l library, _ func(...any)) { l.counter(prometheus.CounterOpts{Name: notUTF8}) },
	"name with a space":     func(l library, _ func(...any)) { l.counter(prometheus.CounterOpts{Name: "a b"}) },
	"reserved label":        func(l library, _ func(...any)) { l.counterVec(copts, "__a") },
	"empty label":           func(l library, _ func(...any)) { l.counterVec(copts, "") },
	"label twice":           func(l library, _ func(...any)) { l.counterVec(copts, "a", "a") },
	"label not UTF-8":       func(l library, _ func(...any)) { l.counterVec(copts, notUTF8) },
	"label le":              func(l library, _ func(...any)) { l.histogramVec(hopts, "le").values("x") },
	"label quantile":        func(l library, _ func(...any)) { l.summaryVec(sopts, "quantile") },
	"label le on a counter": func(l library, _ func(...any)) { l.counterVec(copts, "le").values("x") },
	"constant label le": func(l library, _ func(...any)) {
		l.histogram(prometheus.HistogramOpts{Name: "m", ConstLabels: prometheus.Labels{"le": "1"}})
	},
	"constant label quantile": func(l library, _ func(...any)) {
		l.summary(prometheus.SummaryOpts{Name: "m", ConstLabels: prometheus.Labels{"quantile": "1"}})
	},
	"constant and variable label": func(l library, _ func(...any)) {
		l.counterVec(prometheus.CounterOpts{Name: "m", ConstLabels: prometheus.Labels{"a": "1"}}, "a")
	},
	"constant value not UTF-8": func(l library, _ func(...any)) {
		l.counter(prometheus.CounterOpts{Name: "m", ConstLabels: prometheus.Labels{"a": notUTF8}})
	},
	"constant label reserved": func(l library, _ func(...any)) {
		l.counter(prometheus.CounterOpts{Name: "m", ConstLabels: prometheus.Labels{"__a": ""}})
	},
	"constant labels": func(l library, _ func(...any)) {
		for _, v := range []string{"1", "2"} {
			opts := copts
			opts.ConstLabels = prometheus.Labels{"k": v}
			v := l.counterVec(opts, "z", "a")
			v.values("zv", "av").(prometheus.Counter).Inc()
		}
	},
	"constant labels of other names": func(l library, _ func(...any)) {
		l.counter(prometheus.CounterOpts{Name: "m", ConstLabels: prometheus.Labels{"a": "1"}})
		l.counter(prometheus.CounterOpts{Name: "m", ConstLabels: prometheus.Labels{"b": "1"}})
	},
	"variable where it was constant": func(l library, _ func(...any)) {
		l.counter(prometheus.CounterOpts{Name: "m", ConstLabels: prometheus.Labels{"a": "1"}})
		l.counterVec(prometheus.CounterOpts{Name: "m"}, "a")
	},
	"another help": func(l library, _ func(...any)) {
		l.counter(prometheus.CounterOpts{Name: "m", Help: "one"})
		l.counter(prometheus.CounterOpts{Name: "m", Help: "two", ConstLabels: prometheus.Labels{}})
	},
	"another unit": func(l library, _ func(...any)) {
		l.counter(prometheus.CounterOpts{Name: "m", Unit: "one"})
		l.counter(prometheus.CounterOpts{Name: "m", Unit: "two"})
	},
	"other labels": func(l library, _ func(...any)) { l.counterVec(copts, "a"); l.counterVec(copts, "b") },

	"label values": func(l library, say func(...any)) {
		for name, v := range l.vecs() {
			v.values("b", "a")
			v.labels(prometheus.Labels{"x": "c", "y": ""})
			say(name, testutil.CollectAndCount(v))
		}
	},
	"too few values":  everyVec(func(v anyVec) (any, error) { return v.getValues("a") }),
	"too many values": everyVec(func(v anyVec) (any, error) { return v.getValues("a", "b", "c") }),
	"no values":       everyVec(func(v anyVec) (any, error) { return v.getValues() }),
	"value not UTF-8": everyVec(func(v anyVec) (any, error) { return v.getValues("a", notUTF8) }),
	"too few labels":  everyVec(func(v anyVec) (any, error) { return v.getLabels(prometheus.Labels{"x": "a"}) }),
	"no labels":       everyVec(func(v anyVec) (any, error) { return v.getLabels(nil) }),
	"another label":   everyVec(func(v anyVec) (any, error) { return v.getLabels(prometheus.Labels{"x": "a", "z": "b"}) }),
	"label's value not UTF-8": everyVec(func(v anyVec) (any, error) {
		return v.getLabels(prometheus.Labels{"x": "a", "y": notUTF8})
	}),
	"panics where it has no error": func(l library, say func(...any)) {
		for name, v := range l.vecs() {
			say(name, outcome(func(func(...any)) { v.values("a") }), outcome(func(func(...any)) { v.labels(nil) }))
		}
	},

	"curry": func(l library, say func(...any)) {
		for name, v := range l.vecs() {
			v.values("a", "b")
			x, err := v.curry(prometheus.Labels{"x": "a"})
			say(name, err)
			y, err := v.curry(prometheus.Labels{"y": "b"})
			say(err)
			xy, err := x.curry(prometheus.Labels{"y": "b"})
			say(err)
			x.values("b")
			y.labels(prometheus.Labels{"x": "a"})
			xy.values()
			xy.labels(nil)
			say(testutil.CollectAndCount(v))
			x.values("other")
			say(testutil.CollectAndCount(y))
			for _, l := range []prometheus.Labels{{"x": "again"}, {"z": "unknown"}, {"y": "b", "z": "unknown"}} {
				_, err = x.curry(l)
				say(err)
			}
			for _, l := range []prometheus.Labels{nil, {"x": "a"}, {"x": "a", "y": "b"}, {"z": "a"}} {
				_, err = x.getLabels(l)
				say(err)
			}
			_, err = x.getValues("a", "b")
			say(err)
		}
	},
	"delete": func(l library, say func(...any)) {
		for name, v := range l.vecs() {
			for _, x := range []string{"1", "2", "3"} {
				for _, y := range []string{"1", "2", "3"} {
					v.values(x, y)
				}
			}
			count := func() int { return testutil.CollectAndCount(v) }
			say(name, v.DeleteLabelValues("1", "1"), v.DeleteLabelValues("1", "1"), v.DeleteLabelValues("1"), count())
			say(v.Delete(prometheus.Labels{"x": "1", "y": "2"}), v.Delete(prometheus.Labels{"x": "1", "y": "2"}), count())
			say(v.Delete(prometheus.Labels{"x": "1"}), v.Delete(prometheus.Labels{"x": "1", "z": "2"}), v.Delete(nil))
			say(v.DeletePartialMatch(prometheus.Labels{"y": "3"}), v.DeletePartialMatch(prometheus.Labels{"z": "3"}), count())
			x, _ := v.curry(prometheus.Labels{"x": "2"})
			say(x.DeletePartialMatch(prometheus.Labels{"x": "2"}))
			say(x.DeleteLabelValues("1"), x.Delete(prometheus.Labels{"y": "2"}))
			say(x.DeletePartialMatch(prometheus.Labels{"y": "1"}), count())
			say(v.DeletePartialMatch(nil), count())
			v.values("again", "1")
			x.Reset()
			say(count())
		}
	},
	"a deleted counter starts anew": func(l library, say func(...any)) {
		v := l.counterVec(copts, "a")
		old := v.values("x").(prometheus.Counter)
		old.Add(5)
		v.Reset()
		v.values("x").(prometheus.Counter).Inc()
		old.Inc()
		say(testutil.ToFloat64(v.values("x").(prometheus.Counter)), testutil.ToFloat64(old))
	},

	"exemplar": func(l library, say func(...any)) {
		add := l.counter(copts).(prometheus.ExemplarAdder).AddWithExemplar
		observe := l.histogram(hopts).(prometheus.ExemplarObserver).ObserveWithExemplar
		for _, f := range []func(float64, prometheus.Labels){add, observe} {
			for _, e := range []prometheus.Labels{
				nil, {}, {"trace": "1"}, {"": "a"}, {"__x": "a"}, {"a": notUTF8}, {notUTF8: "a"},
				{"a": strings.Repeat("x", 127)}, {"a": strings.Repeat("ü", 127)}, {"a": strings.Repeat("x", 128)},
			} {
				say(outcome(func(func(...any)) { f(1, e) }))
			}
		}
		say(outcome(func(func(...any)) { add(-1, nil) }))
	},
	"exemplars are kept": func(l library, _ func(...any)) {
		c := l.counterVec(prometheus.CounterOpts{Name: "c_total"}, "a")
		for i, e := range []prometheus.Labels{nil, {}, {"b": "1", "a": "2"}, {"long": strings.Repeat("ü", 120)}} {
			add := c.values(fmt.Sprint(i)).(prometheus.ExemplarAdder).AddWithExemplar
			add(1.5, e)
			add(2, nil)
		}
		c.values("new").(prometheus.ExemplarAdder).AddWithExemplar(1, prometheus.Labels{"n": "old"})
		c.values("new").(prometheus.ExemplarAdder).AddWithExemplar(3, prometheus.Labels{"n": "new"})
		h := l.histogramVec(hopts, "a")
		for _, v := range []float64{0.5, 0.25, 1, 1.5, 2.5, math.NaN(), math.Inf(-1), 7} {
			o := h.values(fmt.Sprint(v > 1)).(prometheus.ExemplarObserver)
			o.ObserveWithExemplar(v, prometheus.Labels{"v": fmt.Sprint(v)})
			o.ObserveWithExemplar(v, nil)
		}
	},
	"exemplar that panics": func(l library, say func(...any)) {
		// It is counted nevertheless, and the one before stays.
		c := l.counter(copts).(prometheus.ExemplarAdder)
		h := l.histogram(hopts).(prometheus.ExemplarObserver)
		c.AddWithExemplar(1, prometheus.Labels{"a": "b"})
		say(outcome(func(func(...any)) { c.AddWithExemplar(2, prometheus.Labels{"__a": "b"}) }))
		say(outcome(func(func(...any)) { h.ObserveWithExemplar(2, prometheus.Labels{"a": notUTF8}) }))
		say(outcome(func(func(...any)) { c.AddWithExemplar(-1, prometheus.Labels{"a": "c"}) }))
	},
	"curried exemplars": func(l library, say func(...any)) {
		v, err := l.counterVec(copts, "x", "y").curry(prometheus.Labels{"y": "b"})
		say(err)
		v.values("a").(prometheus.ExemplarAdder).AddWithExemplar(1, prometheus.Labels{"t": "1"})
	},
	"descriptors": func(l library, say func(...any)) {
		opts := prometheus.CounterOpts{Name: "m", Help: "h", Unit: "u", ConstLabels: prometheus.Labels{"k": "v"}}
		c := l.counterVec(opts, "b", "a")
		say(c.values("1", "2").(prometheus.Metric).Desc())
		say(l.gauge(prometheus.GaugeOpts{Name: "g"}).Desc())
		for _, v := range []prometheus.Collector{c, l.histogram(prometheus.HistogramOpts{Name: "h"})} {
			ch := make(chan *prometheus.Desc, 2)
			v.Describe(ch)
			say(<-ch, len(ch))
		}
	},
}

// vecs returns a vector of each type, with the labels x and y.
func (l library) vecs() func(yield func(string, anyVec) bool) {
	return func(yield func(string, anyVec) bool) {
		_ = yield("counter", l.counterVec(prometheus.CounterOpts{Name: "c_total"}, "x", "y")) &&
			yield("gauge", l.gaugeVec(prometheus.GaugeOpts{Name: "g"}, "x", "y")) &&
			yield("histogram", l.histogramVec(prometheus.HistogramOpts{Name: "h", Buckets: []float64{1}}, "x", "y")) &&
			yield("summary", l.summaryVec(prometheus.SummaryOpts{Name: "s"}, "x", "y"))
	}
}

func everyVec(get func(anyVec) (any, error)) func(library, func(...any)) {
	return func(l library, say func(...any)) {
		for name, v := range l.vecs() {
			m, err := get(v)
			say(name, m != nil && err == nil, err)
		}
	}
}

// deletedStay are the cases where what a store shows is not what client_golang does: a deleted counter's sum stays
// until every worker has deleted it, and one process's last value is the whole server's.
var deletedStay = map[string]bool{"a deleted counter starts anew": true}

func TestSameAsClientGolang(t *testing.T) {
	for name, run := range parity {
		t.Run(name, func(t *testing.T) {
			theirs := clientGolang()
			want := outcome(func(say func(...any)) { run(theirs, say) })
			for _, p := range places {
				r := p.make(t)
				ours := onescrape(p.name, r)
				got := outcome(func(say func(...any)) { run(ours, say) })
				require.Equal(t, want, got, p.name)
				if p.name == "store" && deletedStay[name] {
					continue
				}
				require.Equal(t, theirs.text(t), ours.text(t), p.name)
			}
		})
	}
}

func TestWhereConstructionDiffers(t *testing.T) {
	// client_golang notices these at the first look-up.
	r := inMemory(t)
	require.EqualError(t, panicOf(func() { r.newHistogramVec(hopts, []string{"le"}) }),
		`"le" is not allowed as label name in histograms`)
	require.EqualError(t, panicOf(func() {
		r.newSummaryVec(prometheus.SummaryOpts{Name: "m", MaxAge: -1}, []string{"a"})
	}), "illegal max age MaxAge=-1ns")
	// And does not mind these.
	require.ErrorContains(t, panicOf(func() {
		r.newHistogram(prometheus.HistogramOpts{Name: "m", Buckets: []float64{1, math.NaN()}})
	}), "must not be NaN")
	require.ErrorContains(t, panicOf(func() { r.newGauge(gopts, 0) }), "no mode")
	require.ErrorContains(t, panicOf(func() { r.newGauge(gopts, 200) }), "has the mode 200")
	_, err := r.newCounterVec(copts, []string{"a"}).CurryWith(prometheus.Labels{"a": notUTF8})
	require.ErrorContains(t, err, "not valid UTF-8")
}

// panicOf returns the error that f panics with.
func panicOf(f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = p.(error)
		} else {
			err = errors.New("no panic")
		}
	}()
	f()
	return nil
}

func TestDefinitions(t *testing.T) {
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			r := p.make(t)
			c := r.newCounter(copts)
			require.Same(t, c, r.newCounter(copts))
			v := r.newGaugeVec(gopts, []string{"a", "b"}, Max)
			require.Same(t, v.WithLabelValues("1", "2"), r.newGaugeVec(gopts, []string{"a", "b"}, Max).WithLabelValues("1", "2"))
			require.Same(t, v.WithLabelValues("1", "2"), v.With(prometheus.Labels{"a": "1", "b": "2"}))
			require.Same(t, c, r.newCounterVec(copts, nil).WithLabelValues(), "no labels: the vector's one counter")
			r.newHistogram(prometheus.HistogramOpts{Name: "h", Buckets: []float64{1, 2}})
			r.newHistogram(prometheus.HistogramOpts{Name: "h", Buckets: []float64{1, 2, math.Inf(1)}})

			for want, define := range map[string]func(){
				"has the type counter, not gauge": func() {
					r.newGauge(prometheus.GaugeOpts{Name: copts.Name, Help: copts.Help}, Sum)
				},
				"has the type counter, not summary": func() {
					r.newSummary(prometheus.SummaryOpts{Name: copts.Name, Help: copts.Help})
				},
				"has the gauge mode max, not min": func() { r.newGaugeVec(gopts, []string{"a", "b"}, Min) },
				`in the order ["a" "b"], not ["b" "a"]`: func() {
					r.newGaugeVec(gopts, []string{"b", "a"}, Max)
				},
				"has the buckets [1 2], not [1 3]": func() {
					r.newHistogram(prometheus.HistogramOpts{Name: "h", Buckets: []float64{1, 3}})
				},
				"has different label names or a different help string": func() {
					r.newHistogram(prometheus.HistogramOpts{Name: "h", ConstLabels: prometheus.Labels{"a": ""}})
				},
			} {
				require.ErrorContains(t, panicOf(define), want)
				require.ErrorContains(t, panicOf(define), want, "a refused definition leaves nothing behind")
			}

			one := prometheus.HistogramOpts{Name: "k", Buckets: []float64{1}, ConstLabels: prometheus.Labels{"k": "1"}}
			r.newHistogram(one)
			two := one
			two.ConstLabels, two.Buckets = prometheus.Labels{"k": "2"}, []float64{2}
			require.ErrorContains(t, panicOf(func() { r.newHistogram(two) }), "has the buckets [1], not [2]")
			require.ErrorContains(t, panicOf(func() { r.newHistogram(two) }), "has the buckets [1], not [2]")
			two.Buckets = one.Buckets
			require.NotSame(t, r.newHistogram(one), r.newHistogram(two))
		})
	}
}

func TestCounterRefusesWhatNoSumCanHold(t *testing.T) {
	for _, p := range places {
		r := p.make(t)
		log := r.logTo()
		c := r.newCounter(copts)
		c.Add(2)
		c.Add(math.MaxFloat64)
		for range 3 {
			c.Add(math.NaN())
			c.Add(math.Inf(1))
			c.Add(math.MaxFloat64)
		}
		require.Equal(t, math.MaxFloat64, testutil.ToFloat64(c))
		require.Equal(t, 1, strings.Count(log.String(), "finite values only"), log)
	}
}

func TestCounterCellIsFull(t *testing.T) {
	for _, p := range places {
		c := p.make(t).newCounter(copts)
		for range 1030 {
			c.Add(maxInteger)
		}
		c.Inc()
		require.Equal(t, float64(1030*maxInteger), testutil.ToFloat64(c))
		require.Less(t, *c.cells.Load(), uint64(integerMark))
	}
}
