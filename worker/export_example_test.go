package worker_test

import (
	"context"
	"log"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/onescrape/onescrape/master"
	"github.com/onescrape/onescrape/worker"
)

// An application that was instrumented with client_golang needs two lines to be whole behind a prefork master: the one
// that makes its workers, and the one that exports its registry. What a worker that is killed has counted since the last
// publishing is lost, up to a second of it.
func ExampleExport() {
	orders := promauto.NewCounter(prometheus.CounterOpts{Name: "example_orders_total", Help: "Orders taken."})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /order", func(http.ResponseWriter, *http.Request) { orders.Inc() })

	// It was: log.Fatal(http.ListenAndServe(":8080", mux))
	err := master.Run(master.Config{Listen: []string{":8080"}}, func(_ context.Context, w *worker.Worker) error {
		if _, err := worker.Export(prometheus.DefaultGatherer, worker.ExportOptions{}); err != nil {
			return err
		}
		return w.Serve(&http.Server{Handler: mux})
	})
	if err != nil {
		log.Fatal(err)
	}
}
