// Command app is the application of the sample-signals demo: a prefork server with four routes that take their time,
// one that fails and one that panics.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/onescrape/onescrape/master"
	"github.com/onescrape/onescrape/worker"
	"github.com/onescrape/onescrape/worker/httpmetrics"
)

var (
	listen  = flag.String("listen", "127.0.0.1:8080", "address that the workers share")
	metrics = flag.String("metrics", "127.0.0.1:9464", "address of the metrics")
	store   = flag.String("store", "", "directory of the store")
	workers = flag.Int("workers", 4, "number of workers")
	prefix  = flag.String("prefix", "", "prefix of the metrics; with flask, dashboards of prometheus_flask_exporter work")
	native  = flag.Bool("native", false, "give the durations native buckets, beside the classic ones")
)

func main() {
	flag.Parse()
	err := master.Run(master.Config{
		Service: "signals", Listen: []string{*listen}, MetricsListen: *metrics, Store: *store, Workers: *workers,
	}, func(_ context.Context, w *worker.Worker) error {
		return w.Serve(&http.Server{Handler: application()})
	})
	if err != nil {
		log.Fatal(err)
	}
}

func application() http.Handler {
	o := httpmetrics.Options{Prefix: *prefix, InFlight: true, Sizes: true}
	if *native {
		o.NativeFactor = 1.1
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /one", taking(200*time.Millisecond))
	mux.HandleFunc("GET /two", taking(400*time.Millisecond))
	mux.HandleFunc("GET /three", taking(600*time.Millisecond))
	mux.HandleFunc("GET /four", taking(800*time.Millisecond))
	mux.HandleFunc("GET /error", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, ":(", http.StatusInternalServerError)
	})
	mux.HandleFunc("GET /panic", func(http.ResponseWriter, *http.Request) { panic("somebody asked for /panic") })
	return httpmetrics.Must(httpmetrics.New(o)).Wrap(mux)
}

// taking returns a handler that takes up to that long.
func taking(most time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(rand.N(most)):
			fmt.Fprintln(w, "ok")
		case <-r.Context().Done(): // the client has gone
		}
	}
}
