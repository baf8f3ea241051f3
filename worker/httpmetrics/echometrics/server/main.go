// Command server is a prefork server with echo, measured by httpmetrics.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/onescrape/onescrape/master"
	"github.com/onescrape/onescrape/worker"
	"github.com/onescrape/onescrape/worker/httpmetrics"
	"github.com/onescrape/onescrape/worker/httpmetrics/echometrics"
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
	e := echo.New()
	e.Use(middleware.Recover(), echometrics.Middleware(httpmetrics.Must(httpmetrics.New(httpmetrics.Options{}))))
	e.GET("/job/:kind", func(c echo.Context) error { return c.String(http.StatusOK, "done: "+c.Param("kind")+"\n") })
	e.GET("/panic", func(echo.Context) error { panic("somebody asked for /panic") })
	return e
}
