// Command server is a prefork server with gin, measured by httpmetrics.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/onescrape/onescrape/master"
	"github.com/onescrape/onescrape/worker"
	"github.com/onescrape/onescrape/worker/httpmetrics"
	"github.com/onescrape/onescrape/worker/httpmetrics/ginmetrics"
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
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.Use(gin.Recovery(), ginmetrics.Middleware(httpmetrics.Must(httpmetrics.New(httpmetrics.Options{}))))
	engine.GET("/job/:kind", func(c *gin.Context) { c.String(http.StatusOK, "done: %s\n", c.Param("kind")) })
	engine.GET("/panic", func(*gin.Context) { panic("somebody asked for /panic") })
	return engine
}
