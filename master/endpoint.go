package master

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/aggregate/scrapetimeout"
	"github.com/onescrape/onescrape/master/connlimit"
	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/worker/readonly"
)

// endpoint is the master's own port. Its socket outlives the server on it: before an upgrade the server ends and the
// socket stays, so that scrapes wait in its queue for the next one. The control goroutine calls its methods; the nil
// endpoint is one that is off.
type endpoint struct {
	cfg     Config
	handler http.Handler
	fd      int           // listens; the endpoint's as long as it lives
	spec    string        // where it is configured to be
	text    string        // where it is
	server  *scrapeServer // nil while it is paused
}

// newEndpoint opens the port of the configuration; nil when it is off.
func newEndpoint(cfg Config, h http.Handler) (*endpoint, error) {
	if cfg.MetricsListen == "off" {
		return nil, nil
	}
	fd, err := reuseport.ListenTCP(cfg.MetricsListen)
	if err != nil {
		if reuseport.InUse(err) {
			return nil, fmt.Errorf("master: metrics address %s is in use by %s: stop it, or choose another address or off: %w",
				cfg.MetricsListen, proc.Text(reuseport.Address{Network: "tcp", Addr: cfg.MetricsListen}.Holders()), err)
		}
		return nil, fmt.Errorf("master: metrics address %s: %w", cfg.MetricsListen, err)
	}
	return endpointOn(cfg, h, fd)
}

// endpointOn takes over a socket that listens.
func endpointOn(cfg Config, h http.Handler, fd int) (*endpoint, error) {
	text, err := reuseport.BoundAddress(fd)
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

// start serves until pause. It does nothing when the endpoint is served.
func (e *endpoint) start() error {
	if e == nil || e.server != nil {
		return nil
	}
	fd, err := unix.FcntlInt(uintptr(e.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("master: metrics address %s: %w", e.text, os.NewSyscallError("fcntl", err))
	}
	f := os.NewFile(uintptr(fd), e.text)
	defer f.Close()
	accept, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("master: metrics address %s: %w", e.text, err)
	}
	e.server = newScrapeServer(e.cfg, e.handler, connlimit.New(accept, connlimit.Max()))
	go e.server.run(e.cfg, e.text)
	return nil
}

// pause ends the server when it has answered what it accepted. The socket stays open, and what arrives waits in it. The
// method does not wait: the channel that it returns is closed when the server has ended.
func (e *endpoint) pause() (over <-chan struct{}) {
	ended := make(chan struct{})
	if e == nil || e.server == nil {
		close(ended)
		return ended
	}
	server := e.server
	e.server = nil
	server.pausing.Store(true)
	server.accept.Close()
	go func() {
		defer close(ended)
		server.finish()
	}()
	return ended
}

// close ends the endpoint. Scrapes that are being answered get a moment.
func (e *endpoint) close() {
	if e == nil {
		return
	}
	select {
	case <-e.pause():
	case <-time.After(closeTime):
	}
	unix.Close(e.fd)
}

// scrapeServer is one life of the server on the metrics port.
type scrapeServer struct {
	http    *http.Server
	accept  *connlimit.Listener
	pausing atomic.Bool
	ended   chan struct{} // closed when nothing is accepted any more
}

func newScrapeServer(cfg Config, h http.Handler, accept *connlimit.Listener) *scrapeServer {
	return &scrapeServer{accept: accept, ended: make(chan struct{}), http: &http.Server{
		Handler:           scrapetimeout.Limit(closing(h)),
		ConnState:         accept.Note,
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      scrapetimeout.Default,
		IdleTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}}
}

// run serves until the listener is closed.
func (s *scrapeServer) run(cfg Config, address string) {
	defer close(s.ended)
	serve := cfg.Serve
	if serve == nil {
		serve = func(l net.Listener, srv *http.Server) error { return srv.Serve(l) }
	}
	if err := serve(s.accept, s.http); !s.pausing.Load() {
		cfg.Logger.Error("the metrics port is no longer served", "address", address, "err", err)
	}
}

const (
	// pauseTime is how long scrapes that are being answered are waited for, which is as long as they may take.
	pauseTime = scrapeTime
	// silentTime is how long connections are waited for on which nothing has come yet.
	silentTime = time.Second
	// closeTime is how long scrapes are waited for when the master ends because of an error.
	closeTime = time.Second
)

// finish ends the server, whose listener is closed, when every request was answered or it is too late for that. Who does
// not read is not waited for.
func (s *scrapeServer) finish() {
	select {
	case <-s.ended:
	case <-time.After(silentTime):
	}
	began := time.Now()
	for tick := time.Tick(5 * time.Millisecond); s.accept.Busy(time.Since(began) < silentTime); <-tick {
		if time.Since(began) > pauseTime {
			break
		}
	}
	s.http.Close()
}

// closing has every answer close its connection. An idle connection could carry a scrape at the moment in which the
// server ends, and a new one costs a scraper nothing that counts.
func closing(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		h.ServeHTTP(w, r)
	})
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
