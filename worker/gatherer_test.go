package worker

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/aggregate"
)

// get returns what the handler answers.
func get(h http.Handler, url string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", url, nil))
	return w
}

// getAs is get with an Accept header.
func getAs(h http.Handler, accept string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	req.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

func TestGathererAndHandlerFollowTheStore(t *testing.T) {
	one, other := inMemory(t), inMemory(t)
	h := one.handler(aggregate.HandlerOptions{})
	expect := func(total string) {
		t.Helper()
		text := "# HELP m_total A help.\n# TYPE m_total counter\nm_total{a=\"x\"} " + total + "\n"
		require.NoError(t, testutil.GatherAndCompare(gatherer{one}, strings.NewReader(text), "m_total"))
		w := get(h, "/metrics?name[]=m_total")
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, text, w.Body.String())
	}
	v := one.newCounterVec(copts, []string{"a"})
	v.WithLabelValues("x").Add(2)
	other.newCounterVec(copts, []string{"a"}).WithLabelValues("x").Add(40)
	expect("2")

	path := storeDir(t)
	require.NoError(t, one.open(path, 0))
	expect("2")
	require.NoError(t, other.open(path, 1))
	expect("42")
	v.WithLabelValues("x").Add(0.5)
	expect("42.5")

	require.NoError(t, one.detach())
	expect("2.5")
	path = storeDir(t)
	require.NoError(t, one.open(path, 0))
	expect("2.5")
	require.NoError(t, other.detach())
	require.NoError(t, other.open(path, 1))
	expect("42.5")
}

// TestTestutil holds testutil's functions to metrics of each type, wherever their values are.
func TestTestutil(t *testing.T) {
	for _, p := range places {
		r := p.make(t)
		c := r.newCounterVec(prometheus.CounterOpts{Name: "jobs_total", Help: "Jobs."}, []string{"a"})
		g := r.newGauge(prometheus.GaugeOpts{Name: "temperature_celsius", Help: "T."}, Max)
		s := r.newSummary(prometheus.SummaryOpts{Name: "size_bytes", Help: "Sizes."})
		c.WithLabelValues("x").AddWithExemplar(2.5, prometheus.Labels{"trace": "1"})
		g.Set(-3)
		s.Observe(4)
		require.EqualValues(t, 2.5, testutil.ToFloat64(c))
		require.EqualValues(t, 2.5, testutil.ToFloat64(c.WithLabelValues("x")))
		require.EqualValues(t, -3, testutil.ToFloat64(g))
		require.Panics(t, func() { testutil.ToFloat64(s) }, "as of client_golang's")
		c.WithLabelValues("y")
		require.Panics(t, func() { testutil.ToFloat64(c) }, "as of client_golang's")
		const counters = `
			# HELP jobs_total Jobs.
			# TYPE jobs_total counter
			jobs_total{a="x"} 2.5
			jobs_total{a="y"} 0
		`
		require.NoError(t, testutil.CollectAndCompare(c, strings.NewReader(counters)))
		require.Error(t, testutil.CollectAndCompare(c, strings.NewReader(strings.Replace(counters, "2.5", "2", 1))))
		require.NoError(t, testutil.GatherAndCompare(gatherer{r}, strings.NewReader(counters), "jobs_total"))
		require.NoError(t, testutil.CollectAndCompare(s, strings.NewReader(`
			# HELP size_bytes Sizes.
			# TYPE size_bytes summary
			size_bytes_sum 4
			size_bytes_count 1
		`)))
		for _, collector := range []prometheus.Collector{c, g, s} {
			problems, err := testutil.CollectAndLint(collector)
			require.NoError(t, err)
			require.Empty(t, problems)
		}
		problems, err := testutil.CollectAndLint(r.newCounter(prometheus.CounterOpts{Name: "jobs", Help: "H."}))
		require.NoError(t, err)
		require.Len(t, problems, 1, "it should end in _total")
		problems, err = testutil.GatherAndLint(gatherer{r}, "jobs_total", "size_bytes", "temperature_celsius")
		require.NoError(t, err)
		require.Empty(t, problems)
	}
}

func TestToolsOfClientGolang(t *testing.T) {
	r := inMemory(t)
	opts := prometheus.HistogramOpts{Name: "h_seconds", Help: "A help.", Buckets: []float64{1}}
	v := r.newHistogramVec(opts, []string{"a"})
	v.WithLabelValues("x").Observe(0.5)
	problems, err := testutil.CollectAndLint(v)
	require.NoError(t, err)
	require.Empty(t, problems)
	require.NoError(t, testutil.CollectAndCompare(v, strings.NewReader(`
		# HELP h_seconds A help.
		# TYPE h_seconds histogram
		h_seconds_bucket{a="x",le="1"} 1
		h_seconds_bucket{a="x",le="+Inf"} 1
		h_seconds_sum{a="x"} 0.5
		h_seconds_count{a="x"} 1
	`)))
	timer := prometheus.NewTimer(v.WithLabelValues("x"))
	timer.ObserveDuration()
	require.EqualValues(t, 2, written(t, v.WithLabelValues("x").(*Histogram)).Histogram.GetSampleCount())

	// A registry of the program's own takes them as collectors, under a prefix and with a label more.
	reg := prometheus.NewPedanticRegistry()
	wrapped := prometheus.WrapRegistererWith(prometheus.Labels{"w": "1"}, prometheus.WrapRegistererWithPrefix("p_", reg))
	wrapped.MustRegister(v, r.newCounter(copts), r.newGaugeVec(gopts, []string{"a"}, Sum))
	families, err := reg.Gather()
	require.NoError(t, err)
	require.Len(t, families, 2)
}
