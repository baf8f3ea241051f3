package httpmetrics

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/worker"
)

// cheapWriter can do what net/http's writer can, at no cost, so that a benchmark shows what is around the handler.
type cheapWriter struct{ header http.Header }

func (w *cheapWriter) Header() http.Header         { return w.header }
func (w *cheapWriter) WriteHeader(int)             {}
func (w *cheapWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *cheapWriter) Flush()                      {}
func (w *cheapWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, http.ErrHijacked
}
func (w *cheapWriter) ReadFrom(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }
func (w *cheapWriter) CloseNotify() <-chan bool            { return nil }

// answer is a handler with next to nothing to do.
var answer = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusOK)
	w.Write(hello)
})

var hello = []byte("hello")

// request is one as net/http and its ServeMux hand it to a handler.
func request(t testing.TB) *http.Request {
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), http.ServerContextKey, http.DefaultServeMux))
	t.Cleanup(cancel)
	r := httptest.NewRequestWithContext(ctx, "GET", "/job/clean", nil)
	r.Pattern = "GET /job/{kind}"
	return r
}

// pair is what promhttp offers for the same: a histogram of the durations and a counter.
func pair() http.Handler {
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "d_seconds", Buckets: defaultBuckets},
		[]string{"method", "code"})
	total := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "t_total"}, []string{"method", "code"})
	return promhttp.InstrumentHandlerDuration(duration, promhttp.InstrumentHandlerCounter(total, answer))
}

// wrapped are the ways to measure, in process memory and in a store.
func wrapped(t testing.TB) map[string]http.Handler {
	return map[string]http.Handler{
		"defaults": Must(New(Options{Prefix: fresh()})).Wrap(answer),
		"everything": Must(New(Options{Prefix: fresh(), Sizes: true, InFlight: true})).
			Wrap(answer),
		"computed label": Must(New(Options{Prefix: fresh(), Labels: []Label{{Name: "kind", Func: func(e *Exchange) string {
			return e.Request.URL.Path[len("/job/"):]
		}}}})).Wrap(answer),
	}
}

func withAndWithoutStore(t testing.TB, do func(place string)) {
	do("memory")
	dir := t.TempDir()
	require.NoError(t, worker.Open(dir))
	defer worker.Detach()
	do("store")
}

func TestNothingIsAllocated(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector has sync.Pool forget things at random")
	}
	w, r := &cheapWriter{http.Header{}}, request(t)
	withAndWithoutStore(t, func(place string) {
		for name, h := range wrapped(t) {
			require.Zero(t, testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) }), "%s in %s", name, place)
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	w, r := &cheapWriter{http.Header{}}, request(b)
	run := func(name string, h http.Handler) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
		})
	}
	run("peer=none", answer)
	run("peer=promhttp", pair())
	withAndWithoutStore(b, func(place string) {
		for name, h := range wrapped(b) {
			run(fmt.Sprintf("peer=onescrape/%s/%s", place, name), h)
		}
	})
}
