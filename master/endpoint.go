package master

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/worker/readonly"
)

// endpoint is the master's own port. Its socket outlives the server on it: before an upgrade the server ends and the
// socket stays, so that scrapes wait in its queue for the next one. The control goroutine calls its methods; the nil
// endpoint is one that is off.
type endpoint struct {
	cfg     Config
	handler http.Handler
	fd      int    // listens; the endpoint's as long as it lives
	spec    string // where it is configured to be
	text    string // where it is
	ended   chan error
	conns   openConns
	server  *http.Server
	accept  net.Listener
}

// newEndpoint opens the port of the configuration; nil when it is off.
func newEndpoint(cfg Config, h http.Handler) (*endpoint, error) {
	if cfg.MetricsListen == "off" {
		return nil, nil
	}
	sa, err := resolve(cfg.MetricsListen)
	if err != nil {
		return nil, fmt.Errorf("master: metrics address %s: %w", cfg.MetricsListen, err)
	}
	fd, err := openTCP(sa, false)
	if err == nil {
		if err = os.NewSyscallError("listen", unix.Listen(fd, backlog)); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		if inUse(err) {
			return nil, fmt.Errorf("master: metrics address %s is in use by %s: stop it, or choose another address or off: %w",
				cfg.MetricsListen, holderText(holders("tcp", cfg.MetricsListen, "")), err)
		}
		return nil, fmt.Errorf("master: metrics address %s: %w", cfg.MetricsListen, err)
	}
	return endpointOn(cfg, h, fd)
}

// endpointOn takes over a socket that listens.
func endpointOn(cfg Config, h http.Handler, fd int) (*endpoint, error) {
	_, text, err := boundTo(fd)
	if err != nil {
		return nil, fmt.Errorf("master: metrics address: %w", err)
	}
	if cfg.Handler != nil {
		h = cfg.Handler(h)
	}
	return &endpoint{cfg: cfg, handler: h, fd: fd, spec: cfg.MetricsListen, text: text}, nil
}

func (e *endpoint) address() string {
	if e == nil {
		return ""
	}
	return e.text
}

// start serves until pause.
func (e *endpoint) start() error {
	if e == nil {
		return nil
	}
	fd, err := unix.FcntlInt(uintptr(e.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("master: metrics address %s: %w", e.text, os.NewSyscallError("fcntl", err))
	}
	f := os.NewFile(uintptr(fd), e.text)
	defer f.Close()
	if e.accept, err = net.FileListener(f); err != nil {
		return fmt.Errorf("master: metrics address %s: %w", e.text, err)
	}
	e.server = &http.Server{
		Handler:           e.closing(),
		ConnState:         e.conns.note,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(e.cfg.Logger.Handler(), slog.LevelDebug),
	}
	serve := e.cfg.Serve
	if serve == nil {
		serve = func(l net.Listener, srv *http.Server) error { return srv.Serve(l) }
	}
	e.ended = make(chan error, 1)
	server, accept, ended, log := e.server, e.accept, e.ended, e.cfg.Logger
	go func() {
		err := serve(accept, server)
		select {
		case ended <- err:
		default:
		}
		if !e.conns.isPaused() {
			log.Error("the metrics port is no longer served", "address", e.text, "err", err)
		}
	}()
	return nil
}

// closing has every answer close its connection. An idle connection could carry a scrape at the moment in which the
// server ends, and a new one costs a scraper nothing that counts.
func (e *endpoint) closing() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		e.handler.ServeHTTP(w, r)
	})
}

const (
	// pauseTime is how long scrapes that are being answered are waited for, which is as long as they may take.
	pauseTime = scrapeTime
	// silentTime is how long connections are waited for on which nothing has come yet.
	silentTime = time.Second
)

// pause ends the server when it has answered what it accepted. The socket stays open, and what arrives waits in it.
func (e *endpoint) pause() {
	if e == nil || e.server == nil {
		return
	}
	e.conns.pause(true)
	e.accept.Close()
	select {
	case <-e.ended:
	case <-time.After(silentTime):
	}
	e.conns.wait()
	e.server.Close()
	e.server = nil
	e.conns.pause(false)
}

// close ends the endpoint.
func (e *endpoint) close() {
	if e != nil {
		e.pause()
		unix.Close(e.fd)
	}
}

// openConns knows the open connections of a server, each of which carries one request.
type openConns struct {
	mu      sync.Mutex
	open    map[net.Conn]http.ConnState
	paused  bool
	changed chan struct{} // closed at the next change, while somebody waits
}

func (o *openConns) note(c net.Conn, s http.ConnState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open == nil {
		o.open = make(map[net.Conn]http.ConnState)
	}
	o.open[c] = s
	if s == http.StateClosed || s == http.StateHijacked {
		delete(o.open, c)
	}
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
}

func (o *openConns) pause(on bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.paused = on
}

func (o *openConns) isPaused() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.paused
}

// wait returns when every request was answered, or it is too late for that.
func (o *openConns) wait() {
	silent, late := time.After(silentTime), time.After(pauseTime)
	patient := true
	for {
		o.mu.Lock()
		busy := false
		for _, s := range o.open {
			busy = busy || s == http.StateActive || patient && s == http.StateNew
		}
		changed := make(chan struct{})
		o.changed = changed
		o.mu.Unlock()
		if !busy {
			return
		}
		select {
		case <-changed:
		case <-silent:
			patient = false
		case <-late:
			return
		}
	}
}

// scrapeTime is how long a scrape may take.
const scrapeTime = 10 * time.Second

// endpointHandler answers on the metrics port: metrics, health, status, and a page for people.
func endpointHandler(cfg Config, metrics http.Handler, c *counters, status func() Status) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(cfg.TelemetryPath, func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		metrics.ServeHTTP(w, r)
		c.scraped(time.Since(began))
	})
	mux.HandleFunc("/-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "The master is healthy.")
	})
	mux.HandleFunc("/-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !status().Ready {
			http.Error(w, "Not ready.", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "Ready.")
	})
	mux.HandleFunc("/api/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.Encode(status())
	})
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		statusPage.Execute(w, struct {
			Status
			TelemetryPath string
			Now           time.Time
		}{status(), cfg.TelemetryPath, time.Now()})
	})
	return readonly.Handler(mux)
}
