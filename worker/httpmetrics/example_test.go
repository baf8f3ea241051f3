package httpmetrics_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/onescrape/onescrape/worker/httpmetrics"
)

// A server has one line more: where it had the handler mux, it has httpmetrics.Wrap(mux).
func ExampleWrap() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /job/{kind}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "done: %s", r.PathValue("kind"))
	})
	handler := httpmetrics.Wrap(mux)

	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", "/job/clean", nil))
	fmt.Println(w.Code, w.Body)
	// Output: 200 done: clean
}

// A counter around a handler, with a label from the answer.
func ExampleMetrics_Counter() {
	metrics := httpmetrics.Must(httpmetrics.New(httpmetrics.Options{Prefix: "shop"}))
	orders := httpmetrics.Must(metrics.Counter(
		prometheus.CounterOpts{Name: "shop_orders_total", Help: "Orders by the status that they are answered with."},
		httpmetrics.Label{Name: "status", Func: func(e *httpmetrics.Exchange) string { return strconv.Itoa(e.Status) }},
	))
	mux := http.NewServeMux()
	mux.Handle("POST /order", orders.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
	})))
	handler := metrics.Wrap(mux)

	for range 3 {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/order", nil))
	}
	metrics.Generate(os.Stdout, "", "shop_http_request_total", "shop_orders_total")
	// Output:
	// # HELP shop_http_request_total Total number of HTTP requests.
	// # TYPE shop_http_request_total counter
	// shop_http_request_total{method="POST",status="202"} 3
	// # HELP shop_orders_total Orders by the status that they are answered with.
	// # TYPE shop_orders_total counter
	// shop_orders_total{status="202"} 3
}

// Metrics with the names of prometheus_flask_exporter, for the dashboards that were made for it.
func ExampleNew() {
	metrics, err := httpmetrics.New(httpmetrics.Options{Prefix: "flask"})
	if err != nil {
		fmt.Println(err)
		return
	}
	handler := metrics.Wrap(http.NotFoundHandler())
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	metrics.Generate(os.Stdout, "", "flask_http_request_total")
	// Output:
	// # HELP flask_http_request_total Total number of HTTP requests.
	// # TYPE flask_http_request_total counter
	// flask_http_request_total{method="GET",status="404"} 1
}

// Must is for variables of a package, where an error is a mistake in the program.
func ExampleMust() {
	metrics := httpmetrics.Must(httpmetrics.New(httpmetrics.Options{Prefix: "admin"}))
	slow := httpmetrics.Must(metrics.Gauge(prometheus.GaugeOpts{Name: "admin_slow_requests", Help: "Slow requests now."}))
	http.Handle("GET /report", slow.Wrap(http.NotFoundHandler()))
}
