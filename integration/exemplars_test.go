package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/worker"
)

func init() { roles["exemplars"] = inWorker(writeExemplars) }

// writeExemplars leaves an exemplar in a counter of the worker's own and in a bucket of a histogram that all have.
func writeExemplars(w *worker.Worker) error {
	slot := float64(w.Slot())
	trace := prometheus.Labels{"trace_id": fmt.Sprint("trace-of-", w.Slot())}
	worker.NewCounterVec(prometheus.CounterOpts{Name: "jobs_total", Help: "Jobs."}, []string{"slot"}).
		WithLabelValues(fmt.Sprint(w.Slot())).AddWithExemplar(slot+1, trace)
	worker.NewHistogram(prometheus.HistogramOpts{
		Name: "job_seconds", Help: "Durations.", Buckets: []float64{1, 2, 3},
	}).ObserveWithExemplar(slot+0.5, trace)
	return nil
}

// queryExemplars returns what Prometheus has kept of a metric: values by trace.
func queryExemplars(t *testing.T, api, metric string) map[string]float64 {
	t.Helper()
	now := time.Now()
	parameters := url.Values{
		"query": {metric},
		"start": {strconv.FormatInt(now.Add(-time.Hour).Unix(), 10)},
		"end":   {strconv.FormatInt(now.Add(time.Hour).Unix(), 10)},
	}
	_, body, err := get(api + "/api/v1/query_exemplars?" + parameters.Encode())
	require.NoError(t, err)
	var answer struct {
		Status string
		Data   []struct {
			Exemplars []struct {
				Labels map[string]string
				Value  string
			}
		}
	}
	require.NoError(t, json.Unmarshal(body, &answer), "%s", body)
	require.Equal(t, "success", answer.Status, "%s", body)
	values := map[string]float64{}
	for _, series := range answer.Data {
		for _, e := range series.Exemplars {
			v, err := strconv.ParseFloat(e.Value, 64)
			require.NoError(t, err)
			values[e.Labels["trace_id"]] = v
		}
	}
	return values
}

func TestPrometheusHasTheExemplarsOfAllWorkers(t *testing.T) {
	long(t)
	for format, features := range map[string]string{
		"OpenMetrics": "exemplar-storage",
		"protobuf":    "exemplar-storage,native-histograms", // with which Prometheus asks for protobuf
	} {
		t.Run(format, func(t *testing.T) {
			argv, env := asRole("exemplars")
			s := startRun(t, env, 4, []string{"--ready-settle", "0s"}, argv...)
			api := startPrometheus(t, strings.TrimPrefix(s.base, "http://"), "--enable-feature="+features)
			jobs, seconds := map[string]float64{}, map[string]float64{}
			for n := range 4 {
				trace := fmt.Sprint("trace-of-", n)
				jobs[trace], seconds[trace] = float64(n+1), float64(n)+0.5
			}
			for metric, want := range map[string]map[string]float64{"jobs_total": jobs, "job_seconds_bucket": seconds} {
				var got map[string]float64
				eventually(t, "exemplars of "+metric, func() bool {
					got = queryExemplars(t, api, metric)
					return len(got) == len(want)
				})
				assert.Equal(t, want, got, "%v", slices.Sorted(maps.Keys(got)))
			}
		})
	}
}
