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
