package gorillametrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/mux"

	"github.com/onescrape/onescrape/integration/frameworktest"
)

func TestRoutes(t *testing.T) {
	app := frameworktest.New()
	router := mux.NewRouter()
	router.Use(Routes(app.Metrics))
	done := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "done") })
	tracked := func(h http.Handler) http.Handler { return app.Counter.Wrap(app.Gauge.Wrap(h)) }
	status := func(code int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	router.Handle("/job/{kind}", tracked(done)).Methods("GET")
	router.Handle("/skip", tracked(app.Metrics.DoNotTrack(done)))
	router.Handle("/none", tracked(app.Metrics.ExcludeAll(done)))
	router.Handle("/status/418", status(418))
	router.Handle("/fail", status(500))
	s := httptest.NewServer(app.Metrics.Wrap(router))
	defer s.Close()
	app.URL = s.URL
	app.Conform(t, "/job/{kind}", false)
}
