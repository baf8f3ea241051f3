package master

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master/internal/endpoint"
	"github.com/onescrape/onescrape/master/internal/leftovers"
	"github.com/onescrape/onescrape/master/internal/loop"
	"github.com/onescrape/onescrape/master/internal/metrics"
	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/remnants"
	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/master/internal/sockets"
	"github.com/onescrape/onescrape/master/internal/store"
	"github.com/onescrape/onescrape/master/internal/system"
	"github.com/onescrape/onescrape/worker/sdnotify"
)

// errStopped is the end of a start that was interrupted.
var errStopped = errors.New("master: stopped")

// newSupervisor returns a supervisor on an operating system. It has nothing yet.
func newSupervisor(cfg Config, sys system.System) *supervisor {
	l := loop.New(sys)
	s := &supervisor{cfg: cfg, sys: sys, log: cfg.Logger, environ: os.Environ(), loop: l, processes: make(map[int]*process),
		masterState: masterState{Target: cfg.Workers, Started: l.Now()},
		events:      events{messages: make(chan message, 64), children: make(chan os.Signal, 1)},
		announcer:   &announcer{manager: sdnotify.NewNotifier(os.Getenv("NOTIFY_SOCKET"))}}
	s.store = store.New(store.Config{Loop: l, Log: s.log, Retention: cfg.Retention, Foreign: cfg.Foreign, Stopping: s.stopping})
	s.sockets = sockets.New(sys, l, s.log, s.targets)
	s.remnants = remnants.New(sys, l, s.log, s.sockets.Inodes, s.killAt)
	return s
}

// killAt returns when processes are killed that were told to stop at stopAt.
func (s *supervisor) killAt(stopAt time.Time) time.Time {
	if s.shutdown.phase == quick {
		return s.shutdown.quickAt
	}
	return stopAt.Add(s.cfg.GracefulTimeout)
}

// goOnFrom counts on from the status that the last master left in the store, and from log lines that were lost since.
func (s *supervisor) goOnFrom(last []byte, logLost int) {
	s.metrics = metrics.New(last, version, logLost)
	s.metrics.Set(metrics.Gauges{Workers: workersByState(nil)})
	s.announcer.record = &record{log: s.log, metrics: s.metrics}
}

// documentedSize is how many bytes of the store a worker with 10,000 series needs. While a rollout goes on there are two for each
// slot.
const documentedSize = 2 << 20

// begin opens what a master needs: the store and its lock, the addresses, the endpoint.
func (s *supervisor) begin() (err error) {
	if s.Dir, err = s.sys.ResolveDir(s.cfg.Chdir); err != nil {
		return err
	}
	if _, err := s.sys.FindProgram(s.cfg.Command, s.Dir); err != nil {
		return err
	}
	s.warnOfLinkedDir()
	// Before this process opens a socket of its own, which a number that is too large could take for one of systemd's.
	inherited, err := systemdSockets(s.sys)
	if err != nil {
		return err
	}
	path, warning := s.cfg.storePath()
	if warning != "" {
		s.log.Warn(warning)
	}
	last, err := s.store.Begin(path)
	if err != nil {
		return err
	}
	s.goOnFrom(last, 0)
	predecessor := leftovers.Read(last)
	if predecessor != nil {
		s.announcer.record.hold(s.store.Lock(), predecessor)
	}
	stopper := leftovers.Stopper{Log: s.log, GracefulTimeout: s.cfg.GracefulTimeout, Signal: s.cfg.stopSignal(), Pause: s.pauseStart}
	if err := stopper.Stop(predecessor); err != nil {
		return err
	}
	s.store.CheckSpace(uint64(s.cfg.Workers) * 2 * documentedSize)
	if s.lifeline, err = system.NewLifeline(); err != nil {
		return err
	}
	if err := s.store.OpenMerged(s.metrics); err != nil {
		return err
	}
	if s.endpoint, err = endpoint.Open(s.endpointConfig()); err != nil {
		return err
	}
	if err := s.openAddresses(inherited, predecessor); err != nil {
		return err
	}
	if len(s.sockets.Addresses()) == 0 {
		s.log.Warn("there is no address, so the workers get no sockets", "help", "give a listen address, or let systemd pass "+
			"sockets")
	}
	// Before the slots, which may take all descriptors that there are.
	if err := s.endpoint.Start(); err != nil {
		return err
	}
	for range s.Target {
		if err := s.addSlot(); system.Temporary(err) {
			s.noSlot(err)
			break
		} else if err != nil {
			return err
		}
	}
	if err := s.sockets.SteerToAll(); err != nil {
		return err
	}
	s.log.Info("master started", "pid", os.Getpid(), "workers", s.Target, "listen", s.sockets.Addresses(), "metrics",
		s.endpoint.Address(), "store", s.store.Path())
	return nil
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
	return s.cfg.endpoint(endpoint.Pages{Metrics: s.store, Scraped: s.scraped,
		Ready: func() bool { return s.statusNow().Ready }, Status: func() any { return s.statusNow() }})
}

// scraped counts a scrape that was answered. Safe for concurrent use.
func (s *supervisor) scraped(took time.Duration) {
	s.metrics.Scraped(took, s.store.Totals())
	s.announcer.record.update()
}

// statusNow returns the published status. Safe for concurrent use.
func (s *supervisor) statusNow() Status {
	if st := s.announcer.published.Load(); st != nil {
		return *st
	}
	return Status{PID: os.Getpid(), Version: version, Started: s.Started, Store: s.store.Path(), Steering: "off: starting"}
}

// close gives everything up that the master holds; the store's lock comes last.
func (s *supervisor) close() {
	s.store.StopFold()
	s.endpoint.Close()
	s.sockets.Close()
	within(endpoint.CloseTime, s.store.CloseMerged)
	s.lifeline.Close()
	s.store.Close()
}

// within waits until f has returned, but not for longer than the limit.
func within(limit time.Duration, f func()) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		f()
	}()
	select {
	case <-over:
	case <-time.After(limit):
	}
}

// openAddresses opens the addresses of the configuration, or takes the sockets that systemd passed.
func (s *supervisor) openAddresses(inherited []*reuseport.Group, predecessor *leftovers.Possessions) error {
	if len(s.cfg.Listen) == 0 {
		s.sockets.Take(inherited)
		return nil
	}
	if len(inherited) > 0 {
		s.log.Warn("the sockets from systemd are not used, because there are listen addresses", "sockets", len(inherited))
	}
	opener := s.opener(predecessor)
	var groups []*reuseport.Group
	for _, text := range s.cfg.Listen {
		a, err := s.cfg.address(text)
		if err != nil {
			return err
		}
		g, err := opener.Open(a)
		if err != nil {
			return err
		}
		groups = append(groups, g)
		s.sockets.Take(groups) // so that close closes them
	}
	return nil
}

// opener waits for addresses that workers of a master that was on this store before may still hold. The environment is the only
// evidence where that master has left no list of its possessions; where it has, they were stopped already.
func (s *supervisor) opener(predecessor *leftovers.Possessions) sockets.Opener {
	return sockets.Opener{System: s.sys, Log: s.log, AtMost: s.cfg.GracefulTimeout + leftovers.LateGrace, Pause: s.pauseStart,
		MayWait: func(h proc.Holder) bool {
			return predecessor == nil && proc.HasEnv(h.PID, "ONESCRAPE_DIR", s.store.Path())
		}}
}

// pauseStart waits during a start; it returns an error when the master is told to stop meanwhile.
func (s *supervisor) pauseStart(d time.Duration) error {
	select {
	case sig := <-s.events.signals:
		if sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT {
			s.events.signals <- sig // a caller that goes on must still see it
			return errStopped
		}
	case <-s.sys.After(d):
	}
	return nil
}

// systemdSockets takes the sockets that systemd passed to the master.
func systemdSockets(sys system.System) ([]*reuseport.Group, error) {
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
		g, err := reuseport.Inherited(sys.Kernel(), sockets.Name(i), sdnotify.FirstFD+i)
		if err != nil {
			return nil, err
		}
		out = append(out, g)
	}
	return out, nil
}
