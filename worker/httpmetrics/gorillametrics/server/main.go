// Command server is a prefork server with gorilla/mux, measured by httpmetrics.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/http"

	"github.com/gorilla/mux"

	"github.com/onescrape/onescrape/master"
	"github.com/onescrape/onescrape/worker"
	"github.com/onescrape/onescrape/worker/httpmetrics"
	"github.com/onescrape/onescrape/worker/httpmetrics/gorillametrics"
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
	m := httpmetrics.Must(httpmetrics.New(httpmetrics.Options{}))
	router := mux.NewRouter()
	router.Use(gorillametrics.Routes(m))
	router.HandleFunc("/job/{kind}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "done: %s\n", mux.Vars(r)["kind"])
	}).Methods(http.MethodGet)
	router.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("somebody asked for /panic") })
	return m.Wrap(router)
}
