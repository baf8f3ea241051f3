// Command web is a prefork server with net/http, measured by httpmetrics: the default metrics, one of its own around a
// handler, and requests that are not to be counted.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/onescrape/onescrape/master"
	"github.com/onescrape/onescrape/worker"
	"github.com/onescrape/onescrape/worker/httpmetrics"
)

func main() {
	listen := flag.String("listen", ":8080", "address that the workers share")
	metrics := flag.String("metrics", "127.0.0.1:9464", "address of the metrics")
	store := flag.String("store", "", "directory of the store")
	workers := flag.Int("workers", 0, "number of workers; 0: one a CPU")
	flag.Parse()

	err := master.Run(master.Config{
		Listen: []string{*listen}, MetricsListen: *metrics, Store: *store, Workers: *workers,
	}, func(_ context.Context, w *worker.Worker) error {
		return w.Serve(&http.Server{Handler: application()})
	})
	if err != nil {
		log.Fatal(err)
	}
}

func application() http.Handler {
	m := httpmetrics.Must(httpmetrics.New(httpmetrics.Options{InFlight: true}))
	m.Info("app_info", "Application info.", prometheus.Labels{"version": "1.0.3"})
	byKind := httpmetrics.Must(m.Histogram(prometheus.HistogramOpts{
		Name: "job_duration_seconds", Help: "How long jobs take, by their kind and how they end.",
	}, httpmetrics.Label{
		Name: "kind", Limit: 20, Func: func(e *httpmetrics.Exchange) string { return e.Request.PathValue("kind") },
	}, httpmetrics.Label{
		Name: "status", Func: func(e *httpmetrics.Exchange) string { return strconv.Itoa(e.Status) },
	}))

	mux := http.NewServeMux()
	mux.Handle("GET /job/{kind}", byKind.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "done: %s\n", r.PathValue("kind"))
	})))
	mux.HandleFunc("GET /panic", func(http.ResponseWriter, *http.Request) { panic("somebody asked for /panic") })
	mux.Handle("GET /health", m.DoNotTrack(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "fine")
	})))
	return m.Wrap(mux)
}
