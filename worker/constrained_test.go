package worker

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// constrained are the vectors of prometheus.V2 in either library.
func constrained(l library, r *registry, labels prometheus.ConstrainableLabels) map[string]anyVec {
	counters := prometheus.CounterVecOpts{CounterOpts: prometheus.CounterOpts{Name: "c_total"}, VariableLabels: labels}
	gauges := prometheus.GaugeVecOpts{GaugeOpts: prometheus.GaugeOpts{Name: "g"}, VariableLabels: labels}
	histograms := prometheus.HistogramVecOpts{HistogramOpts: prometheus.HistogramOpts{Name: "h", Buckets: []float64{1}},
		VariableLabels: labels}
	summaries := prometheus.SummaryVecOpts{SummaryOpts: prometheus.SummaryOpts{Name: "s"}, VariableLabels: labels}
	if r != nil {
		return map[string]anyVec{
			"counter":   asAny(r.newConstrainedCounterVec(counters), (*CounterVec).CurryWith),
			"gauge":     asAny(r.newConstrainedGaugeVec(gauges, Sum), (*GaugeVec).CurryWith),
			"histogram": asAny(r.newConstrainedHistogramVec(histograms), curryObservers),
			"summary":   asAny(r.newConstrainedSummaryVec(summaries), curryObservers),
		}
	}
	reg := l.Gatherer.(*prometheus.Registry)
	c, g := prometheus.V2.NewCounterVec(counters), prometheus.V2.NewGaugeVec(gauges)
	h, s := prometheus.V2.NewHistogramVec(histograms), prometheus.V2.NewSummaryVec(summaries)
	reg.MustRegister(c, g, h, s)
	return map[string]anyVec{
		"counter":   asAny(c, (*prometheus.CounterVec).CurryWith),
		"gauge":     asAny(g, (*prometheus.GaugeVec).CurryWith),
		"histogram": asAny(h, curryObservers),
		"summary":   asAny(s, curryObservers),
	}
}

var constrainedParity = map[string]func(v anyVec, say func(...any)){
	"values": func(v anyVec, say func(...any)) {
		v.values("A", "B", "C")
		v.values("a", "B", "C")
		v.values("a", "B", "c")
	},
	"labels": func(v anyVec, say func(...any)) {
		v.labels(prometheus.Labels{"x": "A", "y": "B", "z": "C"})
		_, err := v.getLabels(prometheus.Labels{"x": "a", "y": "B", "z": "C"})
		say(err)
	},
	"deleted": func(v anyVec, say func(...any)) {
		v.values("a", "B", "c")
		say(v.DeleteLabelValues("A", "B", "C"), v.DeleteLabelValues("A", "B", "C"))
		v.values("a", "B", "c")
		say(v.Delete(prometheus.Labels{"x": "a", "y": "B", "z": "c"}))
		v.values("q", "B", "c")
		v.values("q", "B", "d")
		v.values("r", "B", "d")
		say(v.DeletePartialMatch(prometheus.Labels{"x": "Q"}), v.DeletePartialMatch(prometheus.Labels{"y": "b"}))
	},
	"curried": func(v anyVec, say func(...any)) {
		c, err := v.curry(prometheus.Labels{"y": "B"})
		say(err)
		c.values("A", "C")
		c.labels(prometheus.Labels{"x": "a", "z": "C"})
		d, err := c.curry(prometheus.Labels{"x": "A"})
		say(err)
		d.values("C")
		say(d.DeleteLabelValues("c"), testutil.CollectAndCount(v))
		_, err = d.curry(prometheus.Labels{"x": "A"})
		say(err)
	},
	"not UTF-8": func(v anyVec, say func(...any)) {
		_, err := v.getValues(notUTF8, "B", "C")
		say(err)
		_, err = v.getValues("A", notUTF8, "C")
		say(err)
		_, err = v.getLabels(prometheus.Labels{"x": "A", "y": notUTF8, "z": "C"})
		say(err)
		_, err = v.getLabels(prometheus.Labels{"x": notUTF8, "y": "B", "z": "C"})
		say(err)
	},
	"wrong number": func(v anyVec, say func(...any)) {
		_, err := v.getValues("A")
		say(err)
		_, err = v.getValues("A", "B", "C", "D")
		say(err)
		_, err = v.getLabels(prometheus.Labels{"x": "A", "other": "B", "y": "C"})
		say(err)
		_, err = v.getLabels(prometheus.Labels{"x": "A"})
		say(err)
		say(v.DeleteLabelValues("A"), v.Delete(nil), outcome(func(func(...any)) { v.values() }))
	},
	"reset": func(v anyVec, say func(...any)) { v.values("A", "B", "C"); v.Reset() },
}

func TestConstrainedAsClientGolang(t *testing.T) {
	valid := func(s string) string { return strings.ToLower(strings.ToValidUTF8(s, "?")) }
	kinds := map[string]prometheus.ConstrainableLabels{
		"constrained": prometheus.ConstrainedLabels{{Name: "x", Constraint: valid}, {Name: "y"},
			{Name: "z", Constraint: strings.ToLower}},
		"constrained by nothing": prometheus.ConstrainedLabels{{Name: "x"}, {Name: "y"}, {Name: "z"}},
		"unconstrained":          prometheus.UnconstrainedLabels{"x", "y", "z"},
	}
	for kind, labels := range kinds {
		for name, run := range constrainedParity {
			t.Run(kind+"/"+name, func(t *testing.T) {
				theirs := clientGolang()
				for typ, v := range constrained(theirs, nil, labels) {
					want := outcome(func(say func(...any)) { run(v, say) })
					for _, p := range places {
						r := p.make(t)
						got := outcome(func(say func(...any)) { run(constrained(library{}, r, labels)[typ], say) })
						require.Equal(t, want, got, "%s in %s", typ, p.name)
					}
				}
				r := inMemory(t)
				for _, v := range constrained(library{}, r, labels) {
					outcome(func(say func(...any)) { run(v, say) })
				}
				require.Equal(t, theirs.text(t), onescrape("memory", r).text(t))
			})
		}
	}
}

// client_golang's view of a vector constrains too, and once only.
func TestConstrainedView(t *testing.T) {
	r := inMemory(t)
	calls := 0
	v := r.newConstrainedCounterVec(prometheus.CounterVecOpts{
		CounterOpts: prometheus.CounterOpts{Name: "c_total", ConstLabels: prometheus.Labels{"k": "v"}},
		VariableLabels: prometheus.ConstrainedLabels{{Name: "path", Constraint: func(s string) string {
			calls++
			return "/" + s
		}}},
	})
	view := v.Vec()
	view.WithLabelValues("a").Inc()
	require.Equal(t, 1, calls)
	v.WithLabelValues("a").Inc()
	require.Equal(t, 2.0, testutil.ToFloat64(v))
	require.NoError(t, testutil.CollectAndCompare(view, strings.NewReader(`
		# HELP c_total 
		# TYPE c_total counter
		c_total{k="v",path="/a"} 2
	`)))
	require.Same(t, v.WithLabelValues("a"), r.newCounterVec(prometheus.CounterOpts{Name: "c_total",
		ConstLabels: prometheus.Labels{"k": "v"}}, []string{"path"}).WithLabelValues("a"), "it is one definition")
}

func TestV2IsThere(t *testing.T) {
	labels := prometheus.UnconstrainedLabels{"a"}
	V2.NewCounterVec(prometheus.CounterVecOpts{CounterOpts: prometheus.CounterOpts{Name: "v2_total"},
		VariableLabels: labels}).WithLabelValues("x").Inc()
	V2.NewGaugeVec(prometheus.GaugeVecOpts{GaugeOpts: prometheus.GaugeOpts{Name: "v2_gauge"},
		VariableLabels: labels}, Max).WithLabelValues("x").Inc()
	V2.NewHistogramVec(prometheus.HistogramVecOpts{HistogramOpts: prometheus.HistogramOpts{Name: "v2_histogram"},
		VariableLabels: labels}).WithLabelValues("x").Observe(1)
	V2.NewSummaryVec(prometheus.SummaryVecOpts{SummaryOpts: prometheus.SummaryOpts{Name: "v2_summary"},
		VariableLabels: labels}).WithLabelValues("x").Observe(1)
	n, err := testutil.GatherAndCount(Gatherer(), "v2_total", "v2_gauge", "v2_histogram", "v2_summary")
	require.NoError(t, err)
	require.Equal(t, 4, n)
}
