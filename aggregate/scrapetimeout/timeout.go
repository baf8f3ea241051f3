// Package scrapetimeout bounds how long a server writes an answer to a client that does not read it.
package scrapetimeout

import (
	"math"
	"net/http"
	"strconv"
	"time"
)

const (
	// Header says how many seconds a scraper waits for its answer.
	Header = "X-Prometheus-Scrape-Timeout-Seconds"
	// Default is how long an answer may take to be sent when the request does not say it.
	Default = 30 * time.Second
	// longest is what a request may ask for.
	longest = time.Minute
)

// Of returns how long the client of a request waits for the answer; false when it does not say so.
func Of(r *http.Request) (time.Duration, bool) {
	seconds, err := strconv.ParseFloat(r.Header.Get(Header), 64)
	if err != nil || !(seconds > 0) {
		return 0, false
	}
	if d := seconds * float64(time.Second); d < math.MaxInt64 {
		return time.Duration(d), true
	}
	return math.MaxInt64, true
}

// Limit gives every answer of h a deadline: what the request asks for, at most a minute, or else Default.
func Limit(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limit, ok := Of(r)
		if !ok {
			limit = Default
		}
		// Where w has no deadlines, the server's own WriteTimeout counts.
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(min(limit, longest)))
		h.ServeHTTP(w, r)
	})
}
