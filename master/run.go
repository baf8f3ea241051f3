package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/master/internal/bootstrap"
	"github.com/onescrape/onescrape/master/internal/endpoint"
	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/release"
	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/worker"
	"github.com/onescrape/onescrape/worker/logqueue"
	"github.com/onescrape/onescrape/worker/sdnotify"
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
	if _, ok := os.LookupEnv(checkEnv); ok {
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
	s := &supervisor{cfg: cfg, log: cfg.Logger, environ: os.Environ(), processes: make(map[int]*process), remnants: make(map[int]*remnant),
		messages: make(chan message, 64), finished: make(chan func(), 64), signals: bootstrap.Signals, checked: make(chan struct{}, 1), target: cfg.Workers,
		started: time.Now(), orphans: newOrphans(), manager: sdnotify.NewNotifier(os.Getenv("NOTIFY_SOCKET"))}
	if s.signals == nil {
		s.signals = make(chan os.Signal, bootstrap.Room)
		signal.Notify(s.signals, bootstrap.Watched...)
	}
	defer signal.Stop(s.signals)
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
	s.startFold()
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

// errStopped is the end of a start that was interrupted.
var errStopped = errors.New("master: stopped")

// begin opens what a master needs: the store and its lock, the addresses, the endpoint.
func (s *supervisor) begin() (err error) {
	if s.dir, err = release.ResolveDir(s.cfg.Chdir); err != nil {
		return err
	}
	if _, err := release.Find(s.cfg.Command, s.dir); err != nil {
		return err
	}
	s.warnOfLinkedDir()
	// Before this process opens a socket of its own, which a number that is too large could take for one of systemd's.
	inherited, err := systemdSockets()
	if err != nil {
		return err
	}
	path, warning := s.cfg.storePath()
	if warning != "" {
		s.log.Warn(warning)
	}
	if err := s.beginStore(path); err != nil {
		return err
	}
	if err := s.stopPredecessors(); err != nil {
		return err
	}
	s.checkSpace()
	if s.lifeline, err = newLifeline(); err != nil {
		return err
	}
	if err := s.openMerged(); err != nil {
		return err
	}
	if s.endpoint, err = endpoint.Open(s.endpointConfig()); err != nil {
		return err
	}
	if err := s.openAddresses(inherited); err != nil {
		return err
	}
	if len(s.groups) == 0 {
		s.log.Warn("there is no address, so the workers get no sockets", "help", "give a listen address, or let systemd pass "+
			"sockets")
	}
	// Before the slots, which may take all descriptors that there are.
	if err := s.endpoint.Start(); err != nil {
		return err
	}
	for range s.target {
		if err := s.addSlot(); temporary(err) {
			s.noSlot(err)
			break
		} else if err != nil {
			return err
		}
	}
	for _, g := range s.groups {
		// Until somebody is ready every socket gets its share, to be answered when its worker is there.
		if err := g.Steer(func(int) bool { return true }); err != nil {
			return fmt.Errorf("master: steer %s: %w", g.Where(), err)
		}
		if g.Sharing() != "" && reuseport.Steerable && g.Network == "tcp" {
			s.log.Warn("steering is off: all workers share one socket, and the kernel decides who gets how much",
				"address", g.Where(), "reason", g.Sharing())
		}
	}
	s.log.Info("master started", "pid", os.Getpid(), "workers", s.target, "listen", s.addressTexts(), "metrics",
		s.endpoint.Address(), "store", s.storePath)
	return nil
}

func (s *supervisor) addressTexts() []string {
	var out []string
	for _, g := range s.groups {
		out = append(out, g.Where())
	}
	return out
}

// startFold has the store, if there is one, folded in the background until stopFold.
func (s *supervisor) startFold() {
	if s.merged != nil {
		s.folding = runFolding(s.merged, s.log)
	}
}

// runFolding folds a store in the background until the function that it returns is called. That function does not wait:
// the channel that it returns is closed when the last fold has ended.
func runFolding(store *aggregate.Store, log *slog.Logger) (stop func() (over <-chan struct{})) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := store.Run(ctx); err != nil && ctx.Err() == nil {
			log.Error("the files of dead workers are no longer folded", "err", err)
		}
	}()
	return func() <-chan struct{} {
		cancel()
		return ended
	}
}

// stopFold ends the folding. The channel is closed when the last fold has ended.
func (s *supervisor) stopFold() (over <-chan struct{}) {
	if s.folding == nil {
		none := make(chan struct{})
		close(none)
		return none
	}
	over = s.folding()
	s.folding = nil
	return over
}

func (s *supervisor) aggregateOptions() aggregate.Options {
	return aggregate.Options{Logger: s.log, Retention: s.cfg.Retention, Foreign: s.cfg.Foreign,
		InitialTotals: s.counters.storeTotals()}
}

// endpoint is an endpoint that serves these pages.
func (c Config) endpoint(pages endpoint.Pages) endpoint.Config {
	pages.TelemetryPath = c.TelemetryPath
	out := endpoint.Config{Listen: c.MetricsListen, Handler: pages.Handler(), Serve: c.Serve, Logger: c.Logger}
	if c.Handler != nil {
		out.Handler = c.Handler(out.Handler)
	}
	return out
}

func (s *supervisor) endpointConfig() endpoint.Config {
	return s.cfg.endpoint(endpoint.Pages{Metrics: http.HandlerFunc(s.serveScrape), Scraped: s.counters.scraped,
		Ready: func() bool { return s.statusNow().Ready }, Status: func() any { return s.statusNow() }})
}

// statusNow returns the published status. Safe for concurrent use.
func (s *supervisor) statusNow() Status {
	if st := s.published.Load(); st != nil {
		return *st
	}
	return Status{PID: os.Getpid(), Version: version, Started: s.started, Store: s.storePath, Steering: "off: starting"}
}

// documentedSize is how much store a worker with 10,000 series needs.
const documentedSize = 2 << 20

// checkSpace warns when the store's file system has no room for the workers and their successors in a rolling restart.
func (s *supervisor) checkSpace() {
	if s.store == nil {
		return // that was said
	}
	free, err := s.store.Free()
	if want := uint64(s.cfg.Workers) * 2 * documentedSize; err == nil && free < want {
		s.log.Warn("little space for the store: a worker that finds none keeps its metrics in its own memory, and they die "+
			"with it", "store", s.storePath, "free", free, "wanted", want,
			"help", "make it larger (docker run --shm-size) or name another")
	}
}

// close gives everything up that the master holds; the store's lock comes last.
func (s *supervisor) close() {
	s.stopFold()
	s.endpoint.Close()
	for _, g := range append(s.groups, s.removedAddresses...) {
		g.Close()
	}
	if s.merged != nil {
		within(endpoint.CloseTime, func() { s.merged.Close() })
	}
	if s.lifeline.write != 0 {
		syscall.Close(s.lifeline.write)
		syscall.Close(s.lifeline.read)
	}
	if s.lock != nil {
		s.lock.Close()
	}
	if s.store != nil {
		s.store.Close()
	}
}

// openAddresses opens the addresses of the configuration, or takes the sockets that systemd passed.
func (s *supervisor) openAddresses(inherited []*reuseport.Group) error {
	if len(s.cfg.Listen) == 0 {
		s.groups = inherited
		return nil
	}
	if len(inherited) > 0 {
		s.log.Warn("the sockets from systemd are not used, because there are listen addresses", "sockets", len(inherited))
	}
	for _, text := range s.cfg.Listen {
		a, err := s.cfg.address(text)
		if err != nil {
			return err
		}
		g, err := s.openWhenFree(a)
		if err != nil {
			return err
		}
		s.groups = append(s.groups, g)
	}
	return nil
}

// lateGrace is how long after the graceful timeout an address is still waited for: the workers of the last master are
// killed by nobody.
const lateGrace = 5 * time.Second

// holderGrace is how long a foreign holder must have been seen until the master refuses: one that closes the address
// between the bind and the look at who has it is nobody's, and one that is executing a program has no environment yet.
const holderGrace = 500 * time.Millisecond

// openWhenFree opens an address. While workers of a master that has gone drain on it, which they do for the graceful
// timeout at most, it waits; anybody else is a reason to refuse.
func (s *supervisor) openWhenFree(a reuseport.Address) (*reuseport.Group, error) {
	deadline := time.Now().Add(s.cfg.GracefulTimeout + lateGrace)
	said := ""
	var foreign time.Time // since when the holders are not the last master's workers
	for {
		g, err := reuseport.Open(a)
		if err == nil {
			return g, nil
		}
		if !reuseport.InUse(err) {
			return nil, fmt.Errorf("master: listen %s: %w", a.Spec(), err)
		}
		hs := a.Holders()
		if s.ofPredecessor(hs) {
			foreign = time.Time{}
		} else if foreign.IsZero() {
			foreign = time.Now()
		}
		if !foreign.IsZero() && time.Since(foreign) > holderGrace || time.Now().After(deadline) {
			return nil, fmt.Errorf("master: listen %s: in use by %s: stop it or choose another address: %w", a.Spec(),
				proc.Text(hs), err)
		}
		if text := proc.Text(hs); foreign.IsZero() && text != said {
			s.log.Warn("waiting for an address that workers of the last master still hold", "address", a.Spec(), "holders", text,
				"at_most", time.Until(deadline).Round(time.Second))
			said = text
		}
		if err := s.pauseStart(50 * time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// ofPredecessor reports whether all holders may be workers of a master that was on this store before. The environment is
// the only evidence where that master has left no list of its possessions; where it has, they were stopped already.
func (s *supervisor) ofPredecessor(hs []proc.Holder) bool {
	if s.predecessor != nil {
		return false
	}
	for _, h := range hs {
		if !proc.HasEnv(h.PID, "ONESCRAPE_DIR", s.storePath) {
			return false
		}
	}
	return len(hs) > 0
}

// systemdSockets takes the sockets that systemd passed to the master.
func systemdSockets() ([]*reuseport.Group, error) {
	sockets := sdnotify.TakeSockets()
	if !sockets.AreFor(os.Getpid()) {
		return nil, nil
	}
	n, err := sockets.Count()
	if err != nil {
		return nil, fmt.Errorf("master: %w", err)
	}
	var out []*reuseport.Group
	for i := range n {
		g, err := reuseport.Inherited(sockets.Name(i), sdnotify.FirstFD+i)
		if err != nil {
			return nil, err
		}
		out = append(out, g)
	}
	return out, nil
}

// notExecutable says why the workers' command could not be executed.
func (c Config) notExecutable(path string, errno syscall.Errno) error {
	return fmt.Errorf("master: cannot run %s: %w: check that it is a program for this machine, with the right to execute "+
		"it and, for a script, an interpreter that exists", path, errno)
}
