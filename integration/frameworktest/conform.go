// Package frameworktest holds the adapters of httpmetrics for frameworks to one behaviour. Their modules are apart, so
// that nobody pays for a framework that they do not use; this is what their tests have in common.
package frameworktest

import (
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/worker"
	"github.com/onescrape/onescrape/worker/httpmetrics"
)

// App is what Conform expects of an application, which it reaches at URL:
//
//	GET /job/{kind}   answers "done", whatever the kind
//	GET /status/418   answers with that status
//	GET /fail         fails in the framework's own way of failing, which it answers with 500
//	GET /panic        panics, before the metrics' middleware recovers, if the framework can
//	GET /skip         is not tracked, has Tracked around it, and answers 200
//	GET /none         is excluded from everything, has Tracked around it, and answers 200
type App struct {
	URL     string
	Metrics *httpmetrics.Metrics
	Counter *httpmetrics.Metric // around /job/{kind}, /skip and /none
	Gauge   *httpmetrics.Metric // around the same
}

// New returns the metrics that an application is to be measured by.
func New() App {
	m := httpmetrics.Must(httpmetrics.New(httpmetrics.Options{Prefix: "app", Sizes: true, InFlight: true}))
	return App{
		Metrics: m,
		Counter: httpmetrics.Must(m.Counter(prometheus.CounterOpts{Name: "app_calls_total"}, httpmetrics.Label{
			Name: "status", Func: func(e *httpmetrics.Exchange) string { return strconv.Itoa(e.Status) },
		})),
		Gauge: httpmetrics.Must(m.Gauge(prometheus.GaugeOpts{Name: "app_calls_in_progress"})),
	}
}

// Conform sends requests and asserts what is counted of them. route is the framework's pattern of /job/{kind}; panics
// reports whether /panic is there to be asked. It is for one application a process.
func (a App) Conform(t *testing.T, route string, panics bool) {
	t.Helper()
	assert.Equal(t, 0.0, value(gather(t), "app_calls_in_progress"), "the initial value")
	for _, path := range []string{"/job/a", "/job/b", "/job/c"} {
		code, body := a.get(t, http.MethodGet, path)
		assert.Equal(t, 200, code)
		assert.Equal(t, "done", body)
	}
	want := map[string]int{
		"/status/418": 418, "/fail": 500, "/nowhere": 404, "/nowhere/else": 404, "/skip": 200, "/none": 200,
	}
	if panics {
		want["/panic"] = 500
	}
	for path, status := range want {
		code, _ := a.get(t, http.MethodGet, path)
		assert.Equal(t, status, code, path)
	}
	n := 7
	if panics {
		n++
	}
	var f map[string]*dto.MetricFamily
	require.Eventually(t, func() bool {
		f = gather(t)
		return count(f, "app_http_request_duration_seconds") == uint64(n)
	}, time.Minute, 10*time.Millisecond, "the requests' durations")
	f = gather(t)

	total := func(status string) float64 {
		v := value(f, "app_http_request_total", "method", "GET", "status", status)
		assert.EqualValues(t, v, count(f, "app_http_request_duration_seconds", "method", "GET", "status", status), status)
		return v
	}
	assert.Equal(t, 3.0, total("200"))
	assert.Equal(t, 1.0, total("418"))
	assert.Equal(t, 2.0, total("404"))
	assert.EqualValues(t, 3, count(f, "app_http_request_duration_seconds", "path", route, "status", "200"), "%v",
		f["app_http_request_duration_seconds"])
	assert.EqualValues(t, 2, count(f, "app_http_request_duration_seconds", "path", "unmatched"))
	failed, exceptions := 1.0, 0.0
	if panics {
		failed, exceptions = 2, 1
	}
	assert.Equal(t, failed, total("500"))
	assert.Equal(t, exceptions, value(f, "app_http_request_exceptions_total", "method", "GET", "status", "500"))
	assert.Equal(t, 4.0, value(f, "app_calls_total", "status", "200"), "three jobs, and what is not tracked")
	assert.Equal(t, 0.0, value(f, "app_calls_in_progress"))
	assert.Equal(t, 0.0, value(f, "app_http_requests_in_flight"))
	for _, m := range f["app_http_response_size_bytes"].GetMetric() {
		if has(m, "path", route) {
			assert.Equal(t, 3.0*float64(len("done")), m.Histogram.GetSampleSum())
		}
	}
}

func (a App) get(t *testing.T, method, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, a.URL+path, nil)
	require.NoError(t, err)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// Sum returns what the series of a metric that have these labels, given as name, value, name, value, add up to at the
// moment.
func Sum(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	return value(gather(t), name, labels...)
}

// Count returns how much the histograms that have these labels, given alike, have observed up to the moment.
func Count(t *testing.T, name string, labels ...string) uint64 {
	t.Helper()
	return count(gather(t), name, labels...)
}

func gather(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	all, err := worker.Gatherer().Gather()
	require.NoError(t, err)
	families := map[string]*dto.MetricFamily{}
	for _, f := range all {
		families[f.GetName()] = f
	}
	return families
}

// value is the sum of the counters and gauges that have these labels, given as name, value, name, value.
func value(f map[string]*dto.MetricFamily, name string, labels ...string) (sum float64) {
	for _, m := range f[name].GetMetric() {
		if has(m, labels...) {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// count is how much the histograms that have these labels have observed.
func count(f map[string]*dto.MetricFamily, name string, labels ...string) (sum uint64) {
	for _, m := range f[name].GetMetric() {
		if has(m, labels...) {
			sum += m.GetHistogram().GetSampleCount()
		}
	}
	return sum
}

func has(m *dto.Metric, labels ...string) bool {
	for i := 0; i < len(labels); i += 2 {
		found := false
		for _, l := range m.GetLabel() {
			found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}
