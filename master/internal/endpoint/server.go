package endpoint

import (
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/onescrape/onescrape/aggregate/scrapetimeout"
	"github.com/onescrape/onescrape/master/connlimit"
)

// scrapeServer is one life of the server on the metrics port.
type scrapeServer struct {
	http    *http.Server
	accept  *connlimit.Listener
	pausing atomic.Bool
	ended   chan struct{} // closed when nothing is accepted any more
}

func newScrapeServer(cfg Config, accept *connlimit.Listener) *scrapeServer {
	return &scrapeServer{accept: accept, ended: make(chan struct{}), http: &http.Server{
		Handler:           scrapetimeout.Limit(closing(cfg.Handler)),
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
	// ScrapeTime is how long a scrape may take, and how long one that is being answered is waited for.
	ScrapeTime = 10 * time.Second
	// PauseTime is how long the channel that Pause returns stays open at most.
	PauseTime = ScrapeTime + 2*silentTime
	// silentTime is how long connections are waited for on which nothing has come yet.
	silentTime = time.Second
	// CloseTime is how long scrapes are waited for when the master ends because of an error.
	CloseTime = time.Second
)

// finish ends the server when every request is answered, or after ScrapeTime. Its listener is closed already. It does not wait
// for clients that do not read.
func (s *scrapeServer) finish() {
	select {
	case <-s.ended:
	case <-time.After(silentTime):
	}
	began := time.Now()
	for tick := time.Tick(5 * time.Millisecond); s.accept.Busy(time.Since(began) < silentTime); <-tick {
		if time.Since(began) > ScrapeTime {
			break
		}
	}
	s.http.Close()
}

// closing makes every answer close its connection. An idle connection could carry a scrape at the moment when the server ends,
// and a new connection costs a scraper next to nothing.
func closing(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		h.ServeHTTP(w, r)
	})
}
