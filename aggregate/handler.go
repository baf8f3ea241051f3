package aggregate

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/prometheus/client_golang/prometheus/promhttp/zstd" // so that promhttp offers it
)

// HandlerOptions say how a Handler answers. The zero value is right.
type HandlerOptions struct {
	// MaxRequestsInFlight is how many scrapes are answered at once, beyond which the answer is 503. 0: 8; negative: any
	// number.
	MaxRequestsInFlight int
	// Timeout is after how long a scrape is given up with 503. 0: 10 s; negative: never. A scraper that says by
	// X-Prometheus-Scrape-Timeout-Seconds that it will not wait as long is not kept waiting.
	Timeout time.Duration
	// CreatedLines adds _created samples to OpenMetrics.
	CreatedLines bool
	// DisableCompression never compresses, even if the scraper would take it.
	DisableCompression bool
}

const (
	defaultInFlight = 8
	defaultTimeout  = 10 * time.Second
	timeoutHeader   = "X-Prometheus-Scrape-Timeout-Seconds"
)

// Handler returns a handler that answers scrapes, in the format and compression that the scraper prefers. Parameters
// `name[]` restrict it to families of these names. Each answer is at least as new as its request.
func (s *Store) Handler(o HandlerOptions) http.Handler {
	inFlight := o.MaxRequestsInFlight
	if inFlight == 0 {
		inFlight = defaultInFlight
	}
	h := promhttp.HandlerFor(s, promhttp.HandlerOpts{
		MaxRequestsInFlight:                 max(inFlight, 0),
		EnableOpenMetrics:                   true,
		EnableOpenMetricsTextCreatedSamples: o.CreatedLines,
		DisableCompression:                  o.DisableCompression,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if limit, ok := o.timeout(r); ok {
			// The pass goes on after the answer was given up, and counts as one in flight.
			http.TimeoutHandler(h, limit, "The scrape took longer than "+limit.String()+".\n").ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// timeout returns how long a request may take; false: as long as it takes.
func (o HandlerOptions) timeout(r *http.Request) (time.Duration, bool) {
	limit := time.Duration(math.MaxInt64)
	switch {
	case o.Timeout == 0:
		limit = defaultTimeout
	case o.Timeout > 0:
		limit = o.Timeout
	}
	if seconds, err := strconv.ParseFloat(r.Header.Get(timeoutHeader), 64); err == nil && seconds > 0 {
		if d := seconds * float64(time.Second); d < float64(limit) {
			limit = time.Duration(d)
		}
	}
	return limit, limit < math.MaxInt64
}
