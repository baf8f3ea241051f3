// Command server is a prefork server with fasthttp, measured by httpmetrics: with the master of this project or, with
// -prefork, with fasthttp's own, which then serves the metrics of all its children.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"strings"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/prefork"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/master"
	"github.com/onescrape/onescrape/worker"
	"github.com/onescrape/onescrape/worker/httpmetrics"
	"github.com/onescrape/onescrape/worker/httpmetrics/fasthttpmetrics"
)

var (
	listen  = flag.String("listen", "127.0.0.1:8080", "address that the workers share")
	metrics = flag.String("metrics", "127.0.0.1:9464", "address of the metrics")
	store   = flag.String("store", "", "directory of the store")
	workers = flag.Int("workers", 0, "number of workers; 0: one a CPU; fasthttp's own prefork has always one a CPU")
	own     = flag.Bool("prefork", false, "use fasthttp's own prefork")
)

func main() {
	flag.Parse()
	run := preforkHere
	if *own {
		run = preforkFasthttp
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func preforkHere() error {
	return master.Run(master.Config{
		Listen: []string{*listen}, MetricsListen: *metrics, Store: *store, Workers: *workers,
	}, func(_ context.Context, w *worker.Worker) error {
		server := application()
		drained := make(chan error, 1)
		go func() {
			<-w.Draining()
			drained <- server.ShutdownWithContext(w.Context())
		}()
		if err := w.Ready(); err != nil {
			return err
		}
		if err := server.Serve(w.Listeners()[0]); err != nil {
			return err
		}
		return <-drained // the listener closes first, while requests are still being answered
	})
}

func preforkFasthttp() error {
	all, err := master.Embed(*store, aggregate.Options{})
	if err != nil {
		return err
	}
	if all != nil { // the master
		go func() {
			log.Fatal(http.ListenAndServe(*metrics, all.Handler(aggregate.HandlerOptions{})))
		}()
	}
	return prefork.New(application()).ListenAndServe(*listen)
}

func application() *fasthttp.Server {
	job := fasthttpmetrics.Route("/job/{kind}", func(ctx *fasthttp.RequestCtx) {
		ctx.WriteString("done: " + strings.TrimPrefix(string(ctx.Path()), "/job/") + "\n")
	})
	crash := fasthttpmetrics.Route("/panic", func(*fasthttp.RequestCtx) { panic("somebody asked for /panic") })
	m := httpmetrics.Must(httpmetrics.New(httpmetrics.Options{}))
	return &fasthttp.Server{CloseOnShutdown: true, Handler: fasthttpmetrics.Wrap(m, func(ctx *fasthttp.RequestCtx) {
		switch path := string(ctx.Path()); {
		case strings.HasPrefix(path, "/job/"):
			job(ctx)
		case path == "/panic": // ends the process: fasthttp does not recover
			crash(ctx)
		default:
			ctx.NotFound()
		}
	})}
}
