package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/aggregate/scrapetimeout"
	"github.com/onescrape/onescrape/master/connlimit"
	"github.com/onescrape/onescrape/master/webpath"
	"github.com/onescrape/onescrape/worker/readonly"
	"github.com/onescrape/onescrape/worker/sigpipe"
)

func addServe(app *kingpin.Application) (string, command) {
	cmd := app.Command("serve", "Offer the metrics of servers that somebody else supervises: of a store, such as that of "+
		"fasthttp's or Fiber's own prefork master, and of the directories of Python's and Ruby's client libraries.")
	var f endpointFlags
	var stores storeFlags
	var others foreignFlags
	var log logFlags
	stores.addPath(cmd, "Directory of the store; by default ONESCRAPE_DIR.")
	others.add(cmd)
	f.add(cmd)
	fold := cmd.Flag("store.fold", "Fold the files of dead workers into the archive. Without it the store is only read.").
		Default("true").Bool()
	log.add(cmd)
	return cmd.FullCommand(), func() error {
		store := stores.path
		if store == "" && !others.given() {
			return errors.New("which store? give --store.path DIR, or a directory of another library")
		}
		if others.compact && !*fold {
			return errors.New("--compact and --no-store.fold contradict each other")
		}
		if err := webpath.Check(f.path, healthPaths...); err != nil {
			return fmt.Errorf("--web.telemetry-path %w", err)
		}
		if err := checkWeb(f.webConfig); err != nil {
			return err
		}
		logger := log.logger()
		dirs, err := others.open(logger)
		if err != nil {
			return err
		}
		s, err := aggregate.Open(store, aggregate.Options{Logger: logger, ReadOnly: !*fold, Retention: f.retention.config(),
			Foreign: dirs})
		if err != nil {
			return err
		}
		defer s.Close()
		// So that what is wrong is said at once, and no scraper waits until all files are parsed.
		if _, err := s.Gather(); err != nil {
			return err
		}
		listener, err := net.Listen("tcp", f.listen)
		if err != nil {
			return fmt.Errorf("--web.listen-address: %w; choose another, or stop who has it", err)
		}

		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		sigpipe.Survive()
		limited := connlimit.New(listener, connlimit.Max())
		srv := &http.Server{Handler: scrapetimeout.Limit(serveMux(f.path, s)), ConnState: limited.Note,
			ReadHeaderTimeout: 10 * time.Second, WriteTimeout: scrapetimeout.Default}
		failed := make(chan error, 2)
		go func() { failed <- serveWeb(limited, srv, f.webConfig, logger) }()
		if *fold {
			go func() { failed <- s.Run(ctx) }()
		}
		select {
		case err = <-failed:
		case <-ctx.Done():
			err = nil
		}
		timeout, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		srv.Shutdown(timeout)
		if errors.Is(err, context.Canceled) || errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	}
}

var healthPaths = []string{"/-/healthy", "/-/ready"}

func serveMux(path string, s *aggregate.Store) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(path, s.Handler(aggregate.HandlerOptions{}))
	for _, health := range healthPaths {
		mux.HandleFunc(health, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	}
	return readonly.Handler(mux)
}
