package worker_test

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/worker"
)

var (
	requests = worker.NewCounterVec(prometheus.CounterOpts{
		Name: "example_requests_total",
		Help: "Requests answered.",
	}, []string{"code"})
	inFlight = worker.NewGauge(prometheus.GaugeOpts{
		Name: "example_in_flight",
		Help: "Requests being answered.",
	}, worker.LiveSum)
	duration = worker.NewHistogram(prometheus.HistogramOpts{
		Name: "example_duration_seconds",
		Help: "How long a request takes.",
	})
)

// Example is an instrumented handler. In a worker of a prefork server every worker's /metrics shows all of them.
func Example() {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", worker.Handler(aggregate.HandlerOptions{}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		inFlight.Inc()
		defer inFlight.Dec()
		timer := prometheus.NewTimer(duration)
		defer timer.ObserveDuration()
		requests.WithLabelValues("200").Inc()
		fmt.Fprintln(w, "hello")
	})

	requests.WithLabelValues("200").Add(2)
	fmt.Println(testutil.ToFloat64(requests.WithLabelValues("200")))
	// Output: 2
}
