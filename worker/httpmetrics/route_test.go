package httpmetrics

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/worker/logqueue"
)

func contextWith(r *http.Request, key, value any) context.Context {
	return context.WithValue(r.Context(), key, value)
}

// cloning is middleware that hands on a copy of the request, as whatever puts something into its context does.
func cloning(h http.Handler) http.Handler {
	type key struct{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(contextWith(r, key{}, 1)))
	})
}

// hiding is middleware that hands on a writer that nothing can be found behind.
func hiding(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
	})
}

func TestRouteOf(t *testing.T) {
	for pattern, want := range map[string]string{
		"":                               "",
		"/":                              "/",
		"/job/{kind}":                    "/job/{kind}",
		"GET /job/{kind}":                "/job/{kind}",
		"GET example.com/job/{kind}":     "/job/{kind}",
		"example.com/":                   "/",
		"POST /files/{path...}":          "/files/{path...}",
		"GET /{$}":                       "/{$}",
		"a name of a handler of its own": "a name of a handler of its own",
	} {
		assert.Equal(t, want, routeOf(pattern), pattern)
	}
}

// captureLog catches what is logged while do runs.
func captureLog(t *testing.T, do func()) string {
	t.Helper()
	var mu sync.Mutex
	var logged bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return logged.Write(b)
	}), nil)))
	defer slog.SetDefault(before)
	do()
	logqueue.Flush(time.Minute)
	mu.Lock()
	defer mu.Unlock()
	return logged.String()
}

func TestRoutes(t *testing.T) {
	type routes = map[string]float64
	for _, c := range []struct {
		name string
		// build puts an application of the routes /a/{x} and /b together.
		build func(m *Metrics, mux *http.ServeMux) http.Handler
		want  routes
		log   string // a part of the line that there must be; "" for none
	}{
		{"around the mux", func(m *Metrics, mux *http.ServeMux) http.Handler { return m.Wrap(mux) },
			routes{"/a/{x}": 4, "/b": 1, "unmatched": 2}, ""},
		{"inside middleware that clones", func(m *Metrics, mux *http.ServeMux) http.Handler { return cloning(m.Wrap(mux)) },
			routes{"/a/{x}": 4, "/b": 1, "unmatched": 2}, ""},
		{"outside middleware that clones", func(m *Metrics, mux *http.ServeMux) http.Handler { return m.Wrap(cloning(mux)) },
			routes{"unmatched": 7}, "the route of a request cannot be seen"},
		{"below a mux that has a prefix", func(m *Metrics, mux *http.ServeMux) http.Handler {
			outer := http.NewServeMux()
			outer.Handle("/", mux)
			return m.Wrap(outer)
		}, routes{"/a/{x}": 4, "/b": 1, "unmatched": 2}, ""},
		{"with Route outside a router that clones", func(m *Metrics, mux *http.ServeMux) http.Handler {
			named := http.NewServeMux()
			named.Handle("/a/{x}", m.Route("GET example.com/a/{y}", mux))
			named.Handle("/b", m.Route("/b", mux))
			return m.Wrap(cloning(named))
		}, routes{"/a/{y}": 4, "/b": 2, "unmatched": 1}, ""},
		{"with Route alone", func(m *Metrics, mux *http.ServeMux) http.Handler {
			named := http.NewServeMux()
			named.Handle("/a/{x}", hiding(m.Route("/a/{y}", mux)))
			named.Handle("/b", m.Route("/b", mux))
			return named
		}, routes{"/a/{y}": 4, "/b": 2}, ""},
		{"with Route behind what hides the writer", func(m *Metrics, mux *http.ServeMux) http.Handler {
			return m.Wrap(cloning(hiding(m.Route("/b", mux))))
		}, routes{"unmatched": 7}, "cannot find the Wrap around it"},
		{"with Route behind what wraps the writer well", func(m *Metrics, mux *http.ServeMux) http.Handler {
			return m.Wrap(cloning(unwrapper2(m.Route("/all", mux))))
		}, routes{"/all": 7}, ""},
		{"by the exchange", func(m *Metrics, mux *http.ServeMux) http.Handler {
			return m.Wrap(cloning(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mux.ServeHTTP(w, r)
				m.Of(w).Route = routeOf(r.Pattern)
			})))
		}, routes{"/a/{x}": 4, "/b": 1, "unmatched": 2}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.Handle("/a/{x}", answering(200))
			mux.Handle("GET /b", answering(200))
			prefix := fresh()
			m := Must(New(Options{Prefix: prefix}))
			url := serve(t, c.build(m, mux))
			logged := captureLog(t, func() {
				for _, path := range []string{"/a/1", "/a/2", "/a/3", "/a/4", "/b", "/nowhere"} {
					get(t, url+path)
				}
				do(t, http.MethodPost, url+"/b", nil)
				n := 0.0
				for _, v := range c.want {
					n += v
				}
				counter(t, prefix)(int(n))
			})
			got := routes{}
			for k, v := range scraped(t).of(prefix + "_http_request_duration_seconds_count{") {
				_, rest, _ := strings.Cut(k, `path="`)
				route, _, _ := strings.Cut(rest, `"`)
				got[route] += v
			}
			assert.Equal(t, c.want, got)
			if c.log == "" {
				assert.NotContains(t, logged, "httpmetrics")
			} else {
				assert.Equal(t, 1, strings.Count(logged, c.log), "%s", logged)
			}
		})
	}
}

func TestExcludedPaths(t *testing.T) {
	for _, c := range []struct {
		patterns string
		path     string
		excluded bool
	}{
		{"/exc", "/exc", true}, {"/exc", "/excluded", true}, {"/exc", "/an/exc", false}, {"exc", "/exc", false},
		{"/exc$", "/excluded", false}, {"/a|/b", "/b/c", true}, {"/a|/b", "/x/b", false}, {"(?i)/EXC", "/exc", true},
		{"/x /y", "/y", true}, {"/x.*z", "/x/y/z/", true}, {"", "/", true},
	} {
		var patterns []*regexp.Regexp
		for _, p := range strings.Split(c.patterns, " ") {
			patterns = append(patterns, regexp.MustCompile(p))
		}
		m := Must(New(Options{NoDefaults: true, ExcludedPaths: patterns}))
		assert.Equal(t, c.excluded, m.excludes(c.path), "%s of %s", c.path, c.patterns)
	}
	_, err := New(Options{NoDefaults: true, ExcludedPaths: []*regexp.Regexp{nil}})
	assert.Error(t, err)
}

// Metrics of RegisterDefault do not count what is excluded, unless they shall.
func TestTrackExcluded(t *testing.T) {
	for _, track := range []bool{false, true} {
		prefix := fresh()
		m := Must(New(Options{Prefix: prefix, InFlight: true, TrackExcluded: track,
			ExcludedPaths: []*regexp.Regexp{regexp.MustCompile("/health")}}))
		registered := Must(m.Counter(prometheus.CounterOpts{Name: prefix + "_registered_total"}))
		m.RegisterDefault(registered)
		around := Must(m.Histogram(prometheus.HistogramOpts{Name: prefix + "_around_seconds"}))
		url := serve(t, m.Wrap(around.Wrap(answering(200))))
		for _, path := range []string{"/", "/health", "/healthy"} {
			get(t, url+path)
		}
		want := 1.0
		if track {
			want = 3
		}
		s := counter(t, prefix)(1)
		eventually(t, "the durations", func() bool { return scraped(t)[sample(prefix+"_around_seconds_count")] == want })
		total, _ := s.statuses(t)
		assert.Equal(t, map[string]float64{"200": 1}, total)
		assert.Equal(t, want, scraped(t)[sample(prefix+"_registered_total")])
	}
}

// A Metric without a Wrap around it measures by itself, and just itself.
func TestMetricAlone(t *testing.T) {
	prefix := fresh()
	m := Must(New(Options{Prefix: prefix, InFlight: true}))
	c := Must(m.Counter(prometheus.CounterOpts{Name: prefix + "_calls_total"}, statusLabel))
	h := Must(m.Histogram(prometheus.HistogramOpts{Name: prefix + "_call_seconds"}, statusLabel))
	url := serve(t, c.Wrap(h.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic("x")
		}
		w.WriteHeader(204)
	}))))
	get(t, url)
	get(t, url+"/panic")
	for _, status := range []string{"204", "500"} {
		eventually(t, "the durations", func() bool {
			return scraped(t)[sample(prefix+"_call_seconds_count", "status", status)] == 1
		})
		assert.Equal(t, 1.0, scraped(t)[sample(prefix+"_calls_total", "status", status)])
	}
	assert.Empty(t, scraped(t).of(prefix+"_http_request_total"))
}

// The durations of a handler that another contains are their own.
func TestDurationsNest(t *testing.T) {
	prefix := fresh()
	m := Must(New(Options{Prefix: prefix}))
	inner := Must(m.Summary(prometheus.SummaryOpts{Name: prefix + "_inner"})).Wrap(answering(200))
	outer := Must(m.Summary(prometheus.SummaryOpts{Name: prefix + "_outer"})).Wrap(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			inner.ServeHTTP(w, r)
			inner.ServeHTTP(w, r)
			time.Sleep(time.Millisecond)
		}))
	get(t, serve(t, m.Wrap(outer)))
	s := counter(t, prefix)(1)
	assert.Equal(t, 2.0, s[sample("inner_count")])
	assert.Equal(t, 1.0, s[sample("outer_count")])
	assert.GreaterOrEqual(t, s[sample("outer_sum")], s[sample("inner_sum")]+0.001)
}

// Buckets are where Options say, native ones too.
func TestBuckets(t *testing.T) {
	for _, c := range []struct {
		options         Options
		classic, native bool
	}{
		{Options{}, true, false},
		{Options{NativeFactor: 1.1}, true, true},
		{Options{NativeFactor: 1.1, Buckets: []float64{}}, false, true},
	} {
		c.options.Prefix = fresh()
		Must(New(c.options)).Wrap(answering(200)).ServeHTTP(&cheapWriter{http.Header{}}, request(t))
		families := gathered(t)
		h := families[c.options.Prefix+"_http_request_duration_seconds"].Metric[0].Histogram
		assert.Equal(t, c.native, h.Schema != nil)
		if c.classic {
			require.GreaterOrEqual(t, len(h.Bucket), 14)
			for i, b := range []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10} {
				assert.Equal(t, b, h.Bucket[i].GetUpperBound())
			}
		} else {
			assert.LessOrEqual(t, len(h.Bucket), 1)
		}
	}
}

// A router below http.StripPrefix sees a copy of the request.
func TestStripPrefix(t *testing.T) {
	below := func(inner http.Handler, outer string, wrap func(http.Handler) http.Handler) http.Handler {
		mux := http.NewServeMux()
		mux.Handle(outer, wrap(inner))
		return mux
	}
	strip := func(prefix string) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler { return http.StripPrefix(prefix, h) }
	}
	inner := func() *http.ServeMux {
		mux := http.NewServeMux()
		mux.Handle("GET /a/{x}", answering(200))
		mux.Handle("/b", answering(200))
		return mux
	}
	files := http.FileServerFS(fstest.MapFS{"a/1": {Data: []byte("x")}, "b": {Data: []byte("y"), ModTime: time.Unix(1, 0)}})
	const logged = "call Wrap around the inner http.ServeMux too"
	for name, c := range map[string]struct {
		build func(m *Metrics) http.Handler
		paths []string
		want  []string // the route of each
		log   bool
	}{
		"Wrap around both": {func(m *Metrics) http.Handler {
			return m.Wrap(below(m.Wrap(inner()), "/api/v1/", strip("/api/v1")))
		}, []string{"/api/v1/a/1", "/api/v1/b", "/api/v1/none", "/none"},
			[]string{"/api/v1/a/{x}", "/api/v1/b", "/api/v1/", "unmatched"}, false},
		"Wrap around the outer one": {func(m *Metrics) http.Handler {
			return m.Wrap(below(inner(), "/api/v1/", strip("/api/v1")))
		}, []string{"/api/v1/a/1", "/api/v1/b"}, []string{"/api/v1/", "/api/v1/"}, true},
		"Route": {func(m *Metrics) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("/a/{x}", m.Route("/api/v1/a/{x}", answering(200)))
			return m.Wrap(below(mux, "/api/v1/", strip("/api/v1")))
		}, []string{"/api/v1/a/1"}, []string{"/api/v1/a/{x}"}, false},
		"three muxes": {func(m *Metrics) http.Handler {
			return m.Wrap(below(m.Wrap(below(m.Wrap(inner()), "/v1/", strip("/v1"))), "/api/", strip("/api")))
		}, []string{"/api/v1/a/1", "/api/v1/b"}, []string{"/api/v1/a/{x}", "/api/v1/b"}, false},
		"a wildcard in the prefix": {func(m *Metrics) http.Handler {
			return m.Wrap(below(m.Wrap(inner()), "/t/{tenant}/", func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					http.StripPrefix("/t/"+r.PathValue("tenant"), h).ServeHTTP(w, r)
				})
			}))
		}, []string{"/t/one/a/1", "/t/two/b"}, []string{"/t/{tenant}/a/{x}", "/t/{tenant}/b"}, false},
		"a prefix that no pattern has": {func(m *Metrics) http.Handler {
			return m.Wrap(below(m.Wrap(inner()), "/api/", strip("/api/v1")))
		}, []string{"/api/v1/a/1"}, []string{"/api/"}, true},
		"a copy": {func(m *Metrics) http.Handler { return m.Wrap(cloning(m.Wrap(inner()))) },
			[]string{"/a/1", "/b"}, []string{"/a/{x}", "/b"}, false},
		"a handler that routes no more": {func(m *Metrics) http.Handler {
			return m.Wrap(below(m.Wrap(answering(200)), "/api/v1/", strip("/api/v1")))
		}, []string{"/api/v1/a/1"}, []string{"/api/v1/"}, true},
		"files": {func(m *Metrics) http.Handler { return m.Wrap(below(files, "/static/", strip("/static"))) },
			[]string{"/static/a/1", "/static/b"}, []string{"/static/", "/static/"}, false},
		"a handler of everything": {func(m *Metrics) http.Handler {
			return m.Wrap(below(answering(200), "/", strip("")))
		}, []string{"/a", "/b/c"}, []string{"/", "/"}, false},
		"a handler of a path with a slash": {func(m *Metrics) http.Handler {
			return m.Wrap(below(answering(200), "/admin/", strip("")))
		}, []string{"/admin/"}, []string{"/admin/"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			prefix := fresh()
			m := Must(New(Options{Prefix: prefix}))
			url := serve(t, c.build(m))
			log := captureLog(t, func() {
				want := map[string]float64{}
				for i, path := range c.paths {
					get(t, url+path)
					want[c.want[i]]++
				}
				counter(t, prefix)(len(c.paths))
				got := map[string]float64{}
				for k, v := range scraped(t).of(prefix + "_http_request_duration_seconds_count{") {
					_, rest, _ := strings.Cut(k, `path="`)
					route, _, _ := strings.Cut(rest, `"`)
					got[route] += v
				}
				assert.Equal(t, want, got)
			})
			assert.Equal(t, c.log, strings.Contains(log, logged), log)
			assert.LessOrEqual(t, strings.Count(log, logged), 1)
		})
	}
}
