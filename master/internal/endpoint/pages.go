package endpoint

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/onescrape/onescrape/worker/readonly"
)

// Pages is what the endpoint answers with.
type Pages struct {
	TelemetryPath string
	Metrics       http.Handler
	Scraped       func(took time.Duration) // is called after each scrape; nil: nothing
	Ready         func() bool
	Status        func() any // is shown as JSON and by the page, which needs the fields of master.Status
}

// Reserved are the paths that TelemetryPath cannot be.
var Reserved = []string{"/", "/-/healthy", "/-/ready", "/api/v1/status"}

// Handler answers on the metrics port. It panics if TelemetryPath is not a path.
func (p Pages) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(p.TelemetryPath, func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		p.Metrics.ServeHTTP(w, r)
		if p.Scraped != nil {
			p.Scraped(time.Since(began))
		}
	})
	mux.HandleFunc("/-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "The master is healthy.")
	})
	mux.HandleFunc("/-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !p.Ready() {
			http.Error(w, "Not ready.", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "Ready.")
	})
	mux.HandleFunc("/api/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.Encode(p.Status())
	})
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		p.execute(w)
	})
	return readonly.Handler(mux)
}
