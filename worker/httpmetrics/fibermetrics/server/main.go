// Command server is a prefork server with Fiber, measured by httpmetrics: with the master of this project or, with
// -prefork, with Fiber's own, which then serves the metrics of all its children.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"

	"github.com/gofiber/fiber/v3"
	recoverer "github.com/gofiber/fiber/v3/middleware/recover"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/master"
	"github.com/onescrape/onescrape/worker"
	"github.com/onescrape/onescrape/worker/httpmetrics"
	"github.com/onescrape/onescrape/worker/httpmetrics/fibermetrics"
)

var (
	listen  = flag.String("listen", "127.0.0.1:8080", "address that the workers share")
	metrics = flag.String("metrics", "127.0.0.1:9464", "address of the metrics")
	store   = flag.String("store", "", "directory of the store")
	workers = flag.Int("workers", 0, "number of workers; 0: one a CPU; Fiber's own prefork has always one a CPU")
	prefork = flag.Bool("prefork", false, "use Fiber's own prefork")
)

func main() {
	flag.Parse()
	run := preforkHere
	if *prefork {
		run = preforkFiber
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func preforkHere() error {
	return master.Run(master.Config{
		Listen: []string{*listen}, MetricsListen: *metrics, Store: *store, Workers: *workers,
	}, func(_ context.Context, w *worker.Worker) error {
		app := application()
		drained := make(chan error, 1)
		go func() {
			<-w.Draining()
			drained <- app.ShutdownWithContext(w.Context())
		}()
		if err := w.Ready(); err != nil {
			return err
		}
		if err := app.Listener(w.Listeners()[0], fiber.ListenConfig{DisableStartupMessage: true}); err != nil {
			return err
		}
		return <-drained // the listener closes first, while requests are still being answered
	})
}

func preforkFiber() error {
	all, err := master.Embed(*store, aggregate.Options{})
	if err != nil {
		return err
	}
	if all != nil { // the master
		go func() {
			log.Fatal(http.ListenAndServe(*metrics, all.Handler(aggregate.HandlerOptions{})))
		}()
	}
	return application().Listen(*listen, fiber.ListenConfig{EnablePrefork: true, DisableStartupMessage: true})
}

func application() *fiber.App {
	app := fiber.New()
	app.Use(recoverer.New(), fibermetrics.Middleware(httpmetrics.Must(httpmetrics.New(httpmetrics.Options{}))))
	app.Get("/job/:kind", func(c fiber.Ctx) error { return c.SendString("done: " + c.Params("kind") + "\n") })
	app.Get("/panic", func(fiber.Ctx) error { panic("somebody asked for /panic") })
	return app
}
