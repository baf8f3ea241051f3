package httpmetrics

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"

	"github.com/onescrape/onescrape/worker"
	"github.com/onescrape/onescrape/worker/readonly"
)

// Handler returns what serves the metrics of the whole server: worker.Handler, with Options.Auth around it. Parameters
// `name[]` restrict it to families, which may be named by their samples too, as x by x_bucket.
func (m *Metrics) Handler() http.Handler { return m.endpoint }

// ListenAndServe serves the metrics on an address of their own, at Options.MetricsPath or else /metrics, and returns
// the error that ends it. One process of a server can have the address: in a prefork server it is the master that
// serves the metrics, without this.
func (m *Metrics) ListenAndServe(addr string) error { return m.server(addr).ListenAndServe() }

// ListenAndServeTLS is ListenAndServe over TLS, with files as http.Server.ListenAndServeTLS takes them.
func (m *Metrics) ListenAndServeTLS(addr, certFile, keyFile string) error {
	return m.server(addr).ListenAndServeTLS(certFile, keyFile)
}

func (m *Metrics) server(addr string) *http.Server {
	mux := http.NewServeMux()
	mux.Handle(cmp.Or(m.options.MetricsPath, "/metrics"), m.endpoint)
	return &http.Server{Addr: addr, Handler: readonly.Handler(mux), ReadHeaderTimeout: 10 * time.Second}
}

// Generate writes the metrics of the whole server in the format that accept, as in an Accept header, asks for, "" for
// Prometheus's text, and returns its content type. Names restrict it as `name[]` does in Handler; without any it is
// everything.
func (m *Metrics) Generate(w io.Writer, accept string, names ...string) (contentType string, err error) {
	families, err := worker.Gatherer().Gather()
	if err != nil {
		return "", fmt.Errorf("httpmetrics: generate: %w", err)
	}
	names = withFamilies(names)
	format := expfmt.NegotiateAccept(http.Header{"Accept": {accept}}, expfmt.DefaultOpenMetricsAcceptedFormats()...)
	encoder := expfmt.NewEncoder(w, format)
	for _, f := range families {
		if len(names) > 0 && !slices.Contains(names, f.GetName()) {
			continue
		}
		if err := encoder.Encode(f); err != nil {
			return "", fmt.Errorf("httpmetrics: generate: %w", err)
		}
	}
	if c, ok := encoder.(expfmt.Closer); ok {
		if err := c.Close(); err != nil {
			return "", fmt.Errorf("httpmetrics: generate: %w", err)
		}
	}
	return string(format), nil
}

// bySamples makes `name[]` understand names of samples.
func bySamples(h http.Handler) http.Handler {
	const parameter = "name[]"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query, err := url.ParseQuery(r.URL.RawQuery)
		if names := query[parameter]; err == nil && len(names) > 0 {
			query[parameter] = withFamilies(names)
			changed := *r.URL
			changed.RawQuery = query.Encode()
			r = r.WithContext(r.Context())
			r.URL = &changed
		}
		h.ServeHTTP(w, r)
	})
}

// withFamilies adds to names those of the families whose samples they may be.
func withFamilies(names []string) []string {
	all := slices.Clone(names)
	for _, n := range names {
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			if family, ok := strings.CutSuffix(n, suffix); ok {
				all = append(all, family)
			}
		}
	}
	return all
}
