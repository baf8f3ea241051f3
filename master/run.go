package master

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"strconv"

	"syscall"
	"time"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/master/internal/bootstrap"
	"github.com/onescrape/onescrape/master/internal/endpoint"
	"github.com/onescrape/onescrape/master/internal/environment"
	"github.com/onescrape/onescrape/master/internal/system"
	"github.com/onescrape/onescrape/worker"
	"github.com/onescrape/onescrape/worker/logqueue"
	"github.com/onescrape/onescrape/worker/sigpipe"
)

// worked says that a master started this process as a worker, which stays so although the variables that say it are
// taken from the environment for the children's sake.
var worked = os.Getenv("ONESCRAPE_SLOT") != "" && os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid())

// IsWorker reports whether Run will make this process a worker, so that a program can do things once, in its master. With
// ONESCRAPE_SINGLE=1, where there is no master, it returns true.
func IsWorker() bool { return worked || isSingle() }

// Run makes this process the master or one of its workers, as the environment says. A whole program is a Config, a function
// and Run.
//
// In the master it opens the sockets and the store, starts the workers, and returns when a stop signal has ended them all:
// nil, or an error that says what to do when it could not start or no worker could ever run. In a worker it calls function
// and returns its error; the context ends when the drain begins (worker.Worker.Stopping), whereas requests live by
// worker.Worker.Context. With Config.Command function must be nil.
//
// With ONESCRAPE_SINGLE=1 in the environment there is no master and no worker: Run calls function in this process, for a
// debugger, a profiler or a test, and returns what function returns. The metrics are in memory, and the process listens and
// serves the endpoint itself.
//
// Run takes over the process's signals. What a program does before Run is done in the master and in every worker, and once
// more in the check before an upgrade; so it should open nothing and change nothing unless IsWorker tells it to.
func Run(cfg Config, function func(context.Context, *worker.Worker) error) error {
	if _, ok := os.LookupEnv(environment.Check); ok {
		return answerCheck(cfg, function != nil)
	}
	if worked && len(cfg.Command) == 0 && function != nil {
		return runWorker(function)
	}
	if isSingle() {
		return runSingle(cfg, function)
	}
	cfg, err := cfg.complete(function != nil)
	if err != nil {
		return err
	}
	sigpipe.Survive()
	cfg.Logger = slog.New(logqueue.Wrap(cfg.Logger.Handler()))
	defer logqueue.Flush(logqueue.LastWords)
	if err := worker.Detach(); err != nil {
		cfg.Logger.Warn("the master's own metrics left a file in the store", "err", err)
	}
	before, err := readHandover()
	if err != nil {
		return err
	}
	s := newSupervisor(cfg, system.Machine{})
	if s.events.signals = bootstrap.Signals; s.events.signals == nil {
		s.events.signals = make(chan os.Signal, bootstrap.Room)
		signal.Notify(s.events.signals, bootstrap.Watched...)
	}
	defer signal.Stop(s.events.signals)
	defer s.close()
	if before != nil {
		err = s.adopt(before)
	} else {
		err = s.begin()
	}
	if errors.Is(err, errStopped) {
		return nil
	}
	if err != nil {
		return err
	}
	s.store.StartFold()
	return s.run()
}

func runWorker(function func(context.Context, *worker.Worker) error) error {
	w, err := worker.FromEnvironment(context.Background())
	if err != nil {
		return err
	}
	err = function(w.Stopping(), w)
	if err != nil {
		_ = w.Status("error: " + err.Error()) // so that the master's log has it
	}
	return errors.Join(err, w.Close())
}

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
