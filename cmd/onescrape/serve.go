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
)

func addServe(app *kingpin.Application) (string, command) {
	cmd := app.Command("serve", "Offer the metrics of a store whose workers somebody else supervises, such as fasthttp's "+
		"or Fiber's own prefork master.")
	var f endpointFlags
	var store string
	var log logFlags
	storeFlag(cmd, &store)
	f.add(cmd)
	fold := cmd.Flag("store.fold", "Fold the files of dead workers into the archive. Without it the store is only read.").
		Default("true").Bool()
	log.add(cmd)
	return cmd.FullCommand(), func() error {
		if store == "" {
			return errors.New("which store? give --store.path DIR")
		}
		if err := checkWeb(f.webConfig); err != nil {
			return err
		}
		logger := log.logger()
		s, err := aggregate.Open(store, aggregate.Options{Logger: logger, ReadOnly: !*fold, Retention: f.retention.config()})
		if err != nil {
			return err
		}
		defer s.Close()
		listener, err := net.Listen("tcp", f.listen)
		if err != nil {
			return fmt.Errorf("--web.listen-address: %w; choose another, or stop who has it", err)
		}

		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		srv := &http.Server{Handler: serveMux(f.path, s), ReadHeaderTimeout: 10 * time.Second}
		failed := make(chan error, 2)
		go func() { failed <- serveWeb(listener, srv, f.webConfig, logger) }()
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

func serveMux(path string, s *aggregate.Store) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(path, s.Handler(aggregate.HandlerOptions{}))
	for _, health := range [...]string{"/-/healthy", "/-/ready"} {
		mux.HandleFunc(health, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	}
	return mux
}
