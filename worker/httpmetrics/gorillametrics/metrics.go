// Package gorillametrics names the routes of gorilla/mux for httpmetrics. That router hands a copy of the request to
// its handlers, and does not tell its pattern:
//
//	router := mux.NewRouter()
//	router.Use(gorillametrics.Routes(metrics))
//	server := &http.Server{Handler: metrics.Wrap(router)}
package gorillametrics

import (
	"net/http"

	"github.com/gorilla/mux"

	"github.com/onescrape/onescrape/worker/httpmetrics"
)

// Routes is middleware of a router that Metrics.Wrap is around: it gives each request the template of its route's path.
func Routes(m *httpmetrics.Metrics) mux.MiddlewareFunc {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if e, route := m.Of(w), mux.CurrentRoute(r); e != nil && route != nil {
				if path, err := route.GetPathTemplate(); err == nil {
					e.Route = path
				}
			}
			h.ServeHTTP(w, r)
		})
	}
}
