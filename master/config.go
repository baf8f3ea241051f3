package master

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/master/internal/endpoint"
	"github.com/onescrape/onescrape/master/internal/environment"
	"github.com/onescrape/onescrape/master/internal/release"
	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/master/webpath"
	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/foreign"
	"github.com/onescrape/onescrape/worker"
)

// Config says what a master supervises and how. Each field says what its zero value means. Where zero means a default, a
// negative duration means none.
type Config struct {
	// Service names the default store. "": the program's name.
	Service string
	// Workers is how many workers there are. 0: GOMAXPROCS, which knows a container's CPU limit. Negative is an error.
	Workers int
	// Listen are the addresses that the workers share: host:port, unix:PATH, or either after name=, by which a worker
	// finds it (worker.Worker.Listener, LISTEN_FDNAMES). Empty: the sockets that systemd passes to the master. A unix
	// socket can have a mode and a group: unix:PATH?mode=0660&group=NAME. Without them it has what the umask leaves.
	Listen []string
	// SocketNonblocking makes the sockets of Command's workers non-blocking, as those of Run's function always are.
	// Otherwise they are blocking when they are made, as systemd's are. The flag belongs to the socket: whichever worker
	// changes it changes it for its successors.
	SocketNonblocking bool
	// MetricsListen is the host:port of the endpoint. "": 127.0.0.1:9464; "off": none.
	MetricsListen string
	// TelemetryPath is where the endpoint has the metrics. "": /metrics.
	TelemetryPath string
	// Store is the directory of the store. "": the environment's ONESCRAPE_DIR, else a directory for this user and
	// Service in /dev/shm.
	Store string
	// Foreign are directories of other client libraries that the endpoint exposes too, see package foreign.
	Foreign []*foreign.Dir
	// Retention is how long the series of dead workers are kept when no live one touches them. 0: 24 h; negative: for
	// ever.
	Retention time.Duration
	// GracefulTimeout is how long a worker may take to drain before it is killed. 0: 25 s, below Kubernetes' 30.
	GracefulTimeout time.Duration
	// Linger is how long a draining worker still answers on open connections, with Connection: close. 0: 1 s.
	Linger time.Duration
	// ReadyTimeout is how long a worker may take to say READY=1. 0: 30 s.
	ReadyTimeout time.Duration
	// ReadySettle is how long a successor must live after READY=1 before its predecessor is stopped. 0: 2 s for Command,
	// because some servers say READY before they have loaded anything, and none for Run's function.
	ReadySettle time.Duration
	// ShutdownDelay is how long the workers go on serving after TERM while /-/ready already answers 503. 0: none.
	ShutdownDelay time.Duration
	// Watchdog is how long a worker may be silent (WATCHDOG=1) before it is killed and replaced, 1 ms or more. 0: for ever.
	Watchdog time.Duration
	// MaxAge is the age at which a worker is replaced. 0: none.
	MaxAge time.Duration
	// MaxRequests is the number of requests after which a worker that uses package worker asks for a successor. 0: none.
	MaxRequests int64
	// Jitter spreads MaxAge and MaxRequests by up to this share either way, so that workers are not replaced all at
	// once. 0: 0.1; negative: none; at most 1.
	Jitter float64
	// StopSignal is what the workers understand as a graceful stop. nil: TERM.
	StopSignal os.Signal
	// Command makes the workers processes of this command, which is looked up as exec.LookPath does; Run's function must
	// be nil then. Empty: the workers are this program.
	Command []string
	// Chdir is the directory in which workers start, and a relative path of Command is looked for. Where it is a link, or has
	// links in it, they are resolved once a rollout. "": the master's own directory.
	Chdir string
	// Handler wraps the endpoint, for authentication for instance. nil: nothing.
	Handler func(http.Handler) http.Handler
	// Serve serves the endpoint on its listener until that is closed, then returns; the server's handler and hooks are
	// set and it may be changed before it serves, to add TLS for instance. nil: http.Server.Serve. It can be called
	// again, with another listener, when an upgrade failed or the address changed.
	Serve func(net.Listener, *http.Server) error
	// Logger takes the master's log. nil: slog.Default().
	Logger *slog.Logger
}

const (
	defaultMetrics = "127.0.0.1:9464"
	defaultReady   = 30 * time.Second
	defaultSettle  = 2 * time.Second
	defaultJitter  = 0.1
	maxWorkers     = 1024
)

// complete returns c with its defaults, or an error that says what is wrong with it. function reports whether Run was given a
// function.
func (c Config) complete(function bool) (Config, error) {
	switch {
	case function && len(c.Command) > 0:
		return c, errors.New("master: Config.Command and a function for Run exclude each other: give one of them")
	case !function && len(c.Command) == 0:
		return c, errors.New("master: nothing to run: give Run a function or Config.Command a command")
	case len(c.Command) > 0 && c.Command[0] == "":
		return c, errors.New("master: Config.Command has an empty name")
	case c.Workers < 0:
		return c, fmt.Errorf("master: Config.Workers is %d: give 1 or more, or 0 for one a CPU", c.Workers)
	case c.Workers > maxWorkers:
		return c, fmt.Errorf("master: Config.Workers is %d: at most %d", c.Workers, maxWorkers)
	case c.MaxRequests < 0:
		return c, fmt.Errorf("master: Config.MaxRequests is %d: give 0 for never", c.MaxRequests)
	case c.Watchdog > 0 && c.Watchdog < time.Millisecond:
		return c, fmt.Errorf("master: Config.Watchdog is %v: give at least 1ms, or 0 for never", c.Watchdog)
	case c.Jitter > 1:
		return c, fmt.Errorf("master: Config.Jitter is %v: it is a share of at most 1", c.Jitter)
	}
	if c.Service == "" {
		name := release.Own().Path
		if len(c.Command) > 0 {
			name = c.Command[0]
		}
		c.Service = filepath.Base(name)
	}
	c.Workers = cmp.Or(c.Workers, runtime.GOMAXPROCS(0))
	c.MetricsListen = cmp.Or(c.MetricsListen, defaultMetrics)
	c.TelemetryPath = cmp.Or(c.TelemetryPath, "/metrics")
	c.Store = cmp.Or(c.Store, os.Getenv("ONESCRAPE_DIR"))
	for _, path := range []*string{&c.Store, &c.Chdir} {
		if *path != "" {
			abs, err := filepath.Abs(*path)
			if err != nil {
				return c, fmt.Errorf("master: %s: %w", *path, err)
			}
			*path = abs
		}
	}
	settle := defaultSettle
	if function {
		settle = 0
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.GracefulTimeout, worker.DefaultGracefulTimeout}, {&c.Linger, worker.DefaultLinger}, {&c.ReadyTimeout, defaultReady},
		{&c.ReadySettle, settle}, {&c.ShutdownDelay, 0}, {&c.Watchdog, 0}, {&c.MaxAge, 0},
	} {
		*d.field = max(0, cmp.Or(*d.field, d.value))
	}
	c.Jitter = max(0, cmp.Or(c.Jitter, defaultJitter))
	if c.StopSignal == nil {
		c.StopSignal = syscall.SIGTERM
	}
	if s, ok := c.StopSignal.(syscall.Signal); !ok || s <= 0 || s == syscall.SIGKILL || s == syscall.SIGSTOP {
		return c, fmt.Errorf("master: Config.StopSignal is %v: no signal that a worker could act on", c.StopSignal)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, c.check()
}

// check validates what must be well-formed, without touching anything.
func (c Config) check() error {
	seen := make(map[string]bool)
	for _, l := range c.Listen {
		a, err := reuseport.ParseAddress(l)
		if err != nil {
			return err
		}
		if seen[a.Spec()] {
			return fmt.Errorf("master: listen address %s is given twice", l)
		}
		seen[a.Spec()] = true
	}
	if c.MetricsListen != "off" {
		if _, _, err := net.SplitHostPort(c.MetricsListen); err != nil {
			return fmt.Errorf("master: metrics address %q: %w: give host:port, or off", c.MetricsListen, err)
		}
	}
	for _, l := range c.Listen {
		if a, _ := reuseport.ParseAddress(l); c.MetricsListen != "off" && a.Network == "tcp" && reuseport.Overlap(a.Addr, c.MetricsListen) {
			return fmt.Errorf("master: the listen address %s and the metrics address %s are the same: give one of them another port",
				l, c.MetricsListen)
		}
	}
	if err := webpath.Check(c.TelemetryPath, endpoint.Reserved...); err != nil {
		return fmt.Errorf("master: telemetry path %w", err)
	}
	return nil
}

// storePath returns the directory of the store, and a warning about it or "".
func (c Config) storePath() (path, warning string) {
	if c.Store != "" {
		return c.Store, ""
	}
	return shmstore.DefaultPath(c.Service)
}

// stopSignal is StopSignal as a number; complete has checked that it is one.
func (c Config) stopSignal() syscall.Signal { return c.StopSignal.(syscall.Signal) }

// address is what an entry of Listen says, with what the configuration says of all of them.
func (c Config) address(text string) (reuseport.Address, error) {
	a, err := reuseport.ParseAddress(text)
	a.Blocking = len(c.Command) > 0 && !c.SocketNonblocking
	return a, err
}

// settings are what all workers are told.
func (c Config) settings() environment.Settings {
	return environment.Settings{GracefulTimeout: c.GracefulTimeout, Linger: c.Linger, Watchdog: c.Watchdog, StopSignal: c.stopSignal()}
}

// trial builds from a complete configuration what Run would build, without opening a socket or a store. What fails only after
// the exec of an upgrade ends the service.
func (c Config) trial() error {
	dir, err := release.ResolveDir(c.Chdir)
	if err != nil {
		return err
	}
	if _, err := release.Find(c.Command, dir); err != nil {
		return err
	}
	if err := c.resolveAll(); err != nil {
		return err
	}
	if err := c.tryForeign(); err != nil {
		return err
	}
	return c.tryEndpoint()
}

// resolveAll looks every address up.
func (c Config) resolveAll() error {
	for _, text := range c.Listen {
		a, err := reuseport.ParseAddress(text)
		if err == nil && a.Network == "tcp" {
			err = reuseport.LookUp(a.Addr)
		}
		if err != nil {
			return fmt.Errorf("master: listen %s: %w", text, err)
		}
	}
	if c.MetricsListen != "off" {
		if err := reuseport.LookUp(c.MetricsListen); err != nil {
			return fmt.Errorf("master: metrics address %s: %w", c.MetricsListen, err)
		}
	}
	return nil
}

// tryForeign opens the other libraries' directories as the endpoint would.
func (c Config) tryForeign() error {
	if len(c.Foreign) == 0 {
		return nil
	}
	s, err := aggregate.Open("", aggregate.Options{Foreign: c.Foreign, ReadOnly: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return s.Close()
}

// tryEndpoint builds the endpoint's handler. Both the mux and Config.Handler can panic.
func (c Config) tryEndpoint() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("master: build the handler of the endpoint: %v", v)
		}
	}()
	cfg := c.endpoint(endpoint.Pages{Metrics: http.NotFoundHandler()})
	if cfg.Handler == nil {
		return fmt.Errorf("master: Config.Handler returns no handler")
	}
	return nil
}
