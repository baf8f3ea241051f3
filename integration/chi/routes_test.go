// Package chi holds chi to what the documentation of httpmetrics says of it: Wrap is middleware of chi's, by Use.
package chi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/onescrape/onescrape/integration/frameworktest"
)

func TestUse(t *testing.T) {
	app := frameworktest.New()
	router := chi.NewRouter()
	router.Use(middleware.RequestID, app.Metrics.Wrap)
	done := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "done") })
	tracked := func(h http.Handler) http.Handler { return app.Counter.Wrap(app.Gauge.Wrap(h)) }
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	router.Route("/job", func(r chi.Router) { r.Method("GET", "/{kind}", tracked(done)) })
	router.Handle("/skip", tracked(app.Metrics.DoNotTrack(done)))
	router.Handle("/none", tracked(app.Metrics.ExcludeAll(done)))
	router.Get("/status/418", status(418))
	router.Get("/fail", status(500))
	s := httptest.NewServer(router)
	defer s.Close()
	app.URL = s.URL
	app.Conform(t, "/job/{kind}", false)
}
