package master

import (
	"context"
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/master/internal/endpoint"
	"github.com/onescrape/onescrape/worker"
)

// singleEnv, when it is 1, has Run call its function in this process.
const singleEnv = "ONESCRAPE_SINGLE"

// isSingle reports whether Run shall start no workers.
func isSingle() bool { return os.Getenv(singleEnv) == "1" }

// runSingle is Run in one process, for a debugger, a profiler or a test: no workers and no store. The process listens
// itself, its metrics are in its memory, and the endpoint serves them.
func runSingle(cfg Config, function func(context.Context, *worker.Worker) error) error {
	if function == nil {
		return errors.New("master: " + singleEnv + "=1 runs the function of a program, and this is a command: unset it")
	}
	cfg, err := cfg.complete(true)
	if err != nil {
		return err
	}
	if err := worker.Detach(); err != nil {
		return err
	}
	w, err := cfg.singleWorker()
	if err != nil {
		return err
	}
	started := time.Now()
	status := func() Status {
		s := Status{PID: os.Getpid(), Version: version, Started: started, Workers: 1, Steering: "off: there is one process",
			Ready: w.IsReady() && w.Stopping().Err() == nil}
		for _, l := range w.Listeners() {
			s.Addresses = append(s.Addresses, l.Addr().String())
		}
		slot := Slot{PID: s.PID, State: starting, Started: started}
		if s.Ready {
			slot.State = ready
		}
		s.Slots = []Slot{slot}
		return s
	}
	port, err := endpoint.Open(cfg.endpoint(endpoint.Pages{Ready: func() bool { return status().Ready },
		Status:  func() any { return status() },
		Metrics: worker.Handler(aggregate.HandlerOptions{Timeout: endpoint.ScrapeTime})}))
	if err != nil {
		return errors.Join(err, w.Close())
	}
	defer port.Close()
	if err := port.Start(); err != nil {
		return errors.Join(err, w.Close())
	}
	cfg.Logger.Info("one process without workers and without a store, because of "+singleEnv, "pid", os.Getpid(), "listen",
		status().Addresses, "metrics", port.Address())
	return errors.Join(function(w.Stopping(), w), w.Close())
}

// singleWorker returns the Worker of a process that listens itself, with the settings that a master would give it.
func (c Config) singleWorker() (*worker.Worker, error) {
	for key, value := range map[string]string{
		"ONESCRAPE_GRACEFUL_TIMEOUT": c.GracefulTimeout.String(),
		"ONESCRAPE_LINGER":           c.Linger.String(),
		"ONESCRAPE_STOP_SIGNAL":      strconv.Itoa(int(c.StopSignal.(syscall.Signal))),
	} {
		before, was := os.LookupEnv(key)
		os.Setenv(key, value)
		defer func() {
			if was {
				os.Setenv(key, before)
			} else {
				os.Unsetenv(key)
			}
		}()
	}
	return worker.FromEnvironment(context.Background(), c.Listen...)
}
