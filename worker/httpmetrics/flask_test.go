package httpmetrics

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/worker"
)

// The tests of prometheus_flask_exporter 0.23.2, in the order of its files, with the expectations that they have. Each
// has a counterpart here or a line that says why it has none. As there, every test begins without any metric, so each
// is a process of its own.
//
// What differs throughout: a counter's name is written out with its _total, a route is "GET /test" of http.ServeMux,
// and the group is the route by default, which has the same value where a route has no parameters.
var flaskTests = []struct {
	file, test string
	run        func(f *flask)
	not        string // why there is no counterpart
}{
	{file: "test_defaults", test: "test_simple", run: func(f *flask) {
		f.metrics(Options{Prefix: "flask"})
		f.ok("/test")
		f.metric("flask_exporter_info", 1, "version", version())
		f.get("/test", "/test")
		f.metric("flask_http_request_total", 2, "method", "GET", "status", "200")
		f.metric("flask_http_request_duration_seconds_count", 2, "method", "GET", "path", "/test", "status", "200")
		f.absent("flask_http_request_duration_seconds_count", "method", "GET", "path", "/metrics", "status", "200")
		for _, le := range []string{"0.1", "0.5", "1", "5", "+Inf"} {
			f.metric("flask_http_request_duration_seconds_bucket", 2, "le", le, "method", "GET", "path", "/test",
				"status", "200")
		}
		f.absent("flask_http_request_exceptions_total")
		f.get("/test")
		f.metric("flask_http_request_total", 3, "method", "GET", "status", "200")
		f.metric("flask_http_request_duration_seconds_count", 3, "method", "GET", "path", "/test", "status", "200")
	}},
	{file: "test_defaults", test: "test_response_object", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask"})
		success := Must(m.Counter(prometheus.CounterOpts{Name: "success_invocation_total"}))
		// A function that is no handler of its own: what it does happens in the midst of one.
		inner := success.Wrap(answering(200))
		f.route("/test", func(w http.ResponseWriter, r *http.Request) { inner.ServeHTTP(w, r) })
		f.get("/test", "/test")
		f.metric("flask_http_request_total", 2, "method", "GET", "status", "200")
		f.metric("flask_http_request_duration_seconds_count", 2, "method", "GET", "path", "/test", "status", "200")
		f.metric("success_invocation_total", 2)
	}},
	{file: "test_defaults", test: "test_skip", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask"})
		f.handle("/skip", m.DoNotTrack(answering(200)))
		f.get("/skip", "/skip")
		f.absent("flask_http_request_total")
		f.absent("flask_http_request_duration_seconds_count")
	}},
	{file: "test_defaults", test: "test_exception_counter_metric", run: func(f *flask) {
		f.metrics(Options{Prefix: "flask"})
		f.route("/error", func(http.ResponseWriter, *http.Request) { panic("AttributeError") })
		f.handle("/abort", answering(409))
		f.get("/error")
		f.metric("flask_http_request_exceptions_total", 1, "method", "GET", "status", "500")
		f.get("/error", "/error", "/error")
		f.metric("flask_http_request_exceptions_total", 4, "method", "GET", "status", "500")
		f.get("/abort", "/abort", "/abort", "/abort", "/abort")
		f.metric("flask_http_request_exceptions_total", 4, "method", "GET", "status", "500")
		f.absent("flask_http_request_exceptions_total", "method", "GET", "status", "409")
		f.metric("flask_http_request_total", 5, "method", "GET", "status", "409")
	}},
	{file: "test_defaults", test: "test_do_not_track_only_excludes_defaults", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask"})
		before := Must(m.Counter(prometheus.CounterOpts{Name: "cnt_before_total"}))
		after := Must(m.Counter(prometheus.CounterOpts{Name: "cnt_after_total"}))
		f.handle("/skip/defaults", before.Wrap(m.DoNotTrack(after.Wrap(answering(200)))))
		f.get("/skip/defaults", "/skip/defaults")
		f.absent("flask_http_request_total")
		f.absent("flask_http_request_duration_seconds_count")
		f.absent("flask_http_request_exceptions_total")
		f.metric("cnt_before_total", 2)
		f.metric("cnt_after_total", 2)
	}},
	{file: "test_defaults", test: "test_exclude_all_wrapping", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask"})
		gaugeBefore := Must(m.Gauge(prometheus.GaugeOpts{Name: "gauge_before"}))
		before := Must(m.Counter(prometheus.CounterOpts{Name: "cnt_before_total"}))
		after := Must(m.Counter(prometheus.CounterOpts{Name: "cnt_after_total"}))
		gaugeAfter := Must(m.Gauge(prometheus.GaugeOpts{Name: "gauge_after"}))
		f.handle("/skip", gaugeBefore.Wrap(before.Wrap(m.ExcludeAll(after.Wrap(gaugeAfter.Wrap(answering(200)))))))
		f.get("/skip", "/skip")
		f.absent("flask_http_request_total")
		for _, name := range []string{"cnt_before_total", "cnt_after_total", "gauge_before", "gauge_after"} {
			f.metric(name, 0)
		}
	}},
	{file: "test_defaults", test: "test_custom_path", run: func(f *flask) {
		f.endpoint = "/my-metrics"
		f.metrics(Options{Prefix: "flask", MetricsPath: "/my-metrics"})
		f.ok("/test")
		f.get("/test")
		f.metric("flask_http_request_total", 1, "method", "GET", "status", "200")
		f.metric("flask_http_request_duration_seconds_count", 1, "method", "GET", "path", "/test", "status", "200")
		f.absent("flask_http_request_exceptions_total")
	}},
	{file: "test_defaults", test: "test_custom_metrics_decorator", run: func(f *flask) {
		invocations := 0
		f.metrics(Options{Prefix: "flask", Auth: func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				invocations++
				h.ServeHTTP(w, r)
			})
		}})
		f.ok("/test")
		f.get("/test")
		assert.Zero(f.t, invocations)
		f.metric("flask_http_request_total", 1, "method", "GET", "status", "200")
		assert.Equal(f.t, 1, invocations)
	}},
	{file: "test_defaults", test: "test_no_default_export", run: func(f *flask) {
		f.metrics(Options{Prefix: "flask", NoDefaults: true})
		f.ok("/test")
		f.get("/test")
		f.absent("flask_http_request_total")
		f.absent("flask_http_request_duration_seconds_count")
		f.absent("flask_http_request_exceptions_total")
	}},
	{file: "test_defaults", test: "test_custom_defaults_prefix", run: customPrefix},
	{file: "test_defaults", test: "test_custom_defaults_prefix__F220", run: customPrefix},
	{file: "test_defaults", test: "test_no_defaults_prefix", run: func(f *flask) {
		f.metrics(Options{})
		f.ok("/test")
		f.absent("flask_exporter_info")
		f.metric("exporter_info", 1, "version", version())
		f.get("/test", "/test", "/test")
		f.absent("flask_http_request_total")
		f.metric("http_request_total", 3, "method", "GET", "status", "200")
		f.metric("http_request_duration_seconds_count", 3, "method", "GET", "path", "/test", "status", "200")
	}},
	{file: "test_defaults", test: "test_late_defaults_export", run: lateDefaults},
	{file: "test_defaults", test: "test_late_defaults_export__F220", run: lateDefaults},
	{file: "test_defaults", test: "test_export_latencies_as_summary", run: func(f *flask) {
		f.metrics(Options{Prefix: "flask", NoDefaults: true})
		f.ok("/test")
		f.get("/test", "/test")
		for _, suffix := range []string{"sum", "count", "bucket"} {
			f.absent("flask_http_request_duration_seconds_" + suffix)
		}
		f.metrics(Options{Prefix: "flask", Summary: true})
		f.get("/test", "/test", "/test")
		f.summarized(3)
	}},
	{file: "test_defaults", test: "test_export_latencies_as_summary__F220", run: func(f *flask) {
		f.metrics(Options{Prefix: "flask", NoDefaults: true})
		f.ok("/test")
		f.metrics(Options{Prefix: "flask", Summary: true})
		f.get("/test", "/test", "/test")
		f.summarized(3)
	}},
	{file: "test_defaults", test: "test_non_automatic_endpoint_registration", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask", MetricsPath: none})
		f.ok("/test")
		f.handle("/manual/metrics", m.DoNotTrack(m.Handler()))
		f.get("/test")
		code, _ := get(f.t, f.url+"/metrics")
		assert.Equal(f.t, http.StatusNotFound, code)
		f.get("/test")
		f.endpoint = "/manual/metrics"
		f.metric("flask_http_request_total", 2, "method", "GET", "status", "200")
	}},
	{file: "test_defaults", test: "test_latencies_as_summary", run: func(f *flask) {
		f.metrics(Options{Prefix: "flask", Summary: true})
		f.ok("/test")
		f.get("/test", "/test")
		f.summarized(2)
	}},
	{file: "test_defaults", test: "test_custom_buckets", run: func(f *flask) {
		f.metrics(Options{Prefix: "flask", Buckets: []float64{0.2, 2, 4}})
		f.ok("/test")
		f.get("/test", "/test")
		for _, le := range []string{"0.2", "2", "4", "+Inf"} {
			f.metric("flask_http_request_duration_seconds_bucket", 2, "le", le, "method", "GET", "path", "/test",
				"status", "200")
		}
		for _, le := range []string{"0.1", "0.3", "1.2", "5"} {
			f.absent("flask_http_request_duration_seconds_bucket", "le", le)
		}
	}},
	{file: "test_defaults", test: "test_invalid_labels", run: func(f *flask) {
		// There the labels are no dictionary, which the compiler sees here. What it does not see are names.
		m := f.metrics(Options{Prefix: "flask"})
		for _, labels := range [][]Label{{{Name: "\xff"}}, {{Value: "nameless"}}, {{Name: "a"}, {Name: "a"}}} {
			_, err := m.Counter(prometheus.CounterOpts{Name: "invalid_counter_total"}, labels...)
			assert.ErrorContains(f.t, err, "invalid_counter_total", labels)
		}
	}},
	{file: "test_defaults", test: "test_info", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask"})
		m.Info("info", "Info", prometheus.Labels{"x": "1", "y": "2"})
		f.metric("info", 1, "x", "1", "y", "2")
		m.Info("sample", "Sample", prometheus.Labels{"key": "value"}).Set(5)
		f.metric("sample", 5, "key", "value")
		// There labels can be given in two ways, and not in both at once; here there is one.
		m.Info("no_labels", "Without labels", nil)
		f.metric("no_labels", 1)
	}},
	{file: "test_defaults", test: "test_static_labels", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask", Labels: staticLabels})
		f.handle("/test", Must(m.Counter(prometheus.CounterOpts{Name: "test_counter_total"}, codeLabel)).Wrap(answering(200)))
		f.get("/test", "/test")
		static := []string{"app_name", "Test-App", "api_version", "1"}
		f.metric("flask_http_request_total", 2, append(static, "method", "GET", "status", "200")...)
		f.metric("flask_http_request_duration_seconds_count", 2, append(static, "method", "GET", "path", "/test",
			"status", "200")...)
		f.metric("test_counter_total", 2, append(static, "code", "200")...)
		f.created("test_counter", append(static, "code", "200")...)
		f.metric("flask_exporter_info", 1, "version", version())
	}},
	{file: "test_defaults", test: "test_static_labels_without_metric_labels", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask", Labels: staticLabels})
		f.handle("/test", Must(m.Counter(prometheus.CounterOpts{Name: "test_counter_total"})).Wrap(answering(200)))
		f.get("/test", "/test")
		static := []string{"app_name", "Test-App", "api_version", "1"}
		f.metric("flask_http_request_total", 2, append(static, "method", "GET", "status", "200")...)
		f.metric("flask_http_request_duration_seconds_count", 2, append(static, "method", "GET", "path", "/test",
			"status", "200")...)
		f.metric("test_counter_total", 2, static...)
		f.created("test_counter", static...)
		f.metric("flask_exporter_info", 1, "version", version())
	}},
	{file: "test_defaults", test: "test_default_labels", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask", Labels: []Label{
			{Name: "static", Value: "testing"}, {Name: "dm", Func: func(e *Exchange) string { return e.Request.Method }},
		}})
		f.handle("/test", Must(m.Counter(prometheus.CounterOpts{Name: "test_counter_total"}, codeLabel)).Wrap(answering(200)))
		f.get("/test", "/test")
		labels := []string{"static", "testing", "dm", "GET"}
		f.metric("flask_http_request_total", 2, append(labels, "method", "GET", "status", "200")...)
		f.metric("flask_http_request_duration_seconds_count", 2, append(labels, "method", "GET", "path", "/test",
			"status", "200")...)
		f.metric("test_counter_total", 2, append(labels, "code", "200")...)
		f.metric("flask_exporter_info", 1, "version", version())
	}},

	{file: "test_endpoint", test: "test_restricted", run: func(f *flask) {
		f.metrics(Options{Prefix: "flask"})
		f.ok("/test")
		f.get("/test")
		restricted(f.t, func(names ...string) string {
			query := ""
			for _, n := range names {
				query += "&name[]=" + n
			}
			_, body := get(f.t, f.url+"/metrics?"+query)
			return body
		})
	}},
	{file: "test_endpoint", test: "test_generate_metrics_content", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask", MetricsPath: none})
		f.ok("/test")
		f.get("/test")
		code, _ := get(f.t, f.url+"/metrics")
		assert.Equal(f.t, http.StatusNotFound, code)
		restricted(f.t, func(names ...string) string {
			var body bytes.Buffer
			contentType, err := m.Generate(&body, "", names...)
			require.NoError(f.t, err)
			assert.Contains(f.t, contentType, "text/plain; version=0.0.4")
			return body.String()
		})
	}},
	{file: "test_endpoint", test: "test_http_server", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask", MetricsPath: none})
		other := Must(New(Options{Prefix: "flask", MetricsPath: "/test/metrics"}))
		for _, c := range []struct {
			metrics *Metrics
			path    string
			host    string // it listens on; "": on all addresses
		}{{m, "/metrics", ""}, {other, "/test/metrics", ""}, {m, "/metrics", "127.0.0.1"}} {
			_, port, err := net.SplitHostPort(freeAddress(f.t))
			require.NoError(f.t, err)
			go c.metrics.ListenAndServe(net.JoinHostPort(c.host, port))
			url := "http://" + net.JoinHostPort("127.0.0.1", port) + c.path
			eventually(f.t, "the server", func() bool {
				resp, err := http.Get(url)
				if err == nil {
					resp.Body.Close()
				}
				return err == nil
			})
			code, body := get(f.t, url)
			assert.Equal(f.t, http.StatusOK, code)
			assert.Contains(f.t, body, "flask_exporter_info")
		}
	}},
	{file: "test_endpoint", test: "test_http_status_enum", run: func(f *flask) {
		f.metrics(Options{Prefix: "flask"})
		f.handle("/no/content", answering(http.StatusNoContent))
		f.get("/no/content", "/no/content")
		f.metric("flask_http_request_total", 2, "method", "GET", "status", "204")
		f.metric("flask_http_request_duration_seconds_count", 2, "method", "GET", "path", "/no/content", "status", "204")
	}},
	{file: "test_endpoint", test: "test_abort", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask"})
		byStatus := Must(m.Summary(prometheus.SummaryOpts{Name: "http_index_requests_by_status"}, statusLabel))
		byPath := Must(m.Histogram(prometheus.HistogramOpts{Name: "http_index_requests_by_status_and_path"}, statusLabel,
			pathLabel))
		f.handle("/error", byStatus.Wrap(byPath.Wrap(answering(503))))
		f.get("/error")
		f.metric("http_index_requests_by_status_count", 1, "status", "503")
		f.some("http_index_requests_by_status_sum", "status", "503")
		f.metric("http_index_requests_by_status_and_path_count", 1, "status", "503", "path", "/error")
		f.some("http_index_requests_by_status_and_path_sum", "status", "503", "path", "/error")
		for _, le := range []string{"0.5", "10"} {
			f.metric("http_index_requests_by_status_and_path_bucket", 1, "status", "503", "path", "/error", "le", le)
		}
	}},
	{file: "test_endpoint", test: "test_exception", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask"})
		s := Must(m.Summary(prometheus.SummaryOpts{Name: "http_with_exception"}, statusLabel))
		f.handle("/exception", s.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("On purpose") })))
		f.get("/exception")
		f.metric("http_with_exception_count", 1, "status", "500")
		f.some("http_with_exception_sum", "status", "500")
	}},
	{file: "test_endpoint", test: "test_abort_before", run: func(f *flask) {
		f.before = func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusBadRequest)
			return false
		}
		f.metrics(Options{Prefix: "flask"})
		f.get("/abort/before", "/abort/before")
		f.metric("flask_http_request_total", 2, "method", "GET", "status", "400")
	}},
	{file: "test_endpoint", test: "test_error_handler", run: func(f *flask) {
		// An error handler is middleware that recovers, below the metrics.
		m := f.metrics(Options{Prefix: "flask"})
		handled := func(header string, h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() {
					if recover() != nil {
						if header != "" {
							w.Header().Set("X-Original", header)
						}
						w.WriteHeader(http.StatusBadRequest)
					}
				}()
				h.ServeHTTP(w, r)
			})
		}
		raise := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("raised") })
		exception := Must(m.Summary(prometheus.SummaryOpts{Name: "http_with_exception"}, statusLabel))
		f.handle("/exception", exception.Wrap(handled("", raise)))
		conflict := Must(m.Summary(prometheus.SummaryOpts{Name: "http_with_code"}, statusLabel,
			Label{Name: "code", Func: func(e *Exchange) string { return e.ResponseHeader().Get("X-Original") }}))
		f.handle("/conflict", conflict.Wrap(handled("409", raise)))
		f.get("/exception", "/exception", "/exception")
		f.get("/conflict", "/conflict", "/conflict", "/conflict", "/conflict", "/conflict", "/conflict")
		f.metric("http_with_exception_count", 3, "status", "400")
		f.some("http_with_exception_sum", "status", "400")
		f.metric("http_with_code_count", 7, "status", "400", "code", "409")
		f.some("http_with_code_sum", "status", "400", "code", "409")
	}},
	{file: "test_endpoint", test: "test_error_no_handler", run: func(f *flask) {
		f.metrics(Options{Prefix: "flask"})
		f.route("/exception", func(http.ResponseWriter, *http.Request) { panic("On purpose") })
		f.get("/exception", "/exception", "/exception", "/exception", "/exception")
		f.metric("flask_http_request_total", 5, "method", "GET", "status", "500")
		f.metric("flask_http_request_duration_seconds_count", 5, "method", "GET", "status", "500", "path", "/exception")
	}},
	{file: "test_endpoint", test: "test_named_endpoint", run: func(f *flask) {
		// An endpoint's name is a route here.
		m := f.metrics(Options{Prefix: "flask"})
		s := Must(m.Summary(prometheus.SummaryOpts{Name: "requests_by_status"}, statusLabel))
		f.handle("/testing", m.Route("testing_endpoint", s.Wrap(answering(200))))
		f.get("/testing", "/testing", "/testing", "/testing", "/testing")
		f.metric("requests_by_status_count", 5, "status", "200")
		f.some("requests_by_status_sum", "status", "200")
		f.metric("flask_http_request_duration_seconds_count", 5, "method", "GET", "status", "200", "path", "testing_endpoint")
	}},
	{file: "test_endpoint", test: "test_track_multiple_endpoints", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask"})
		c := Must(m.Counter(prometheus.CounterOpts{Name: "test_counter_total"}, pathLabel))
		f.handle("/first", c.Wrap(answering(200)))
		f.handle("/second", c.Wrap(answering(200)))
		for range 5 {
			f.get("/first", "/second")
		}
		f.metric("flask_http_request_total", 10, "method", "GET", "status", "200")
		f.metric("test_counter_total", 5, "path", "/first")
		f.metric("test_counter_total", 5, "path", "/second")
	}},
	{file: "test_endpoint", test: "test_track_more_defaults", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask"})
		f.ok("/first")
		f.ok("/second")
		m.RegisterDefault(Must(m.Counter(prometheus.CounterOpts{Name: "test_counter_total"}, pathLabel)),
			Must(m.Summary(prometheus.SummaryOpts{Name: "test_summary"}, pathLabel)))
		for range 5 {
			f.get("/first", "/second")
		}
		f.metric("flask_http_request_total", 10, "method", "GET", "status", "200")
		for _, path := range []string{"/first", "/second"} {
			f.metric("test_counter_total", 5, "path", path)
			f.metric("test_summary_count", 5, "path", path)
		}
		f.noFunctions()
	}},
	{file: "test_endpoint", test: "test_excluded_endpoints", run: func(f *flask) {
		f.metrics(Options{Prefix: "flask", ExcludedPaths: []*regexp.Regexp{regexp.MustCompile("/exc")}})
		f.ok("/included")
		f.ok("/excluded")
		for range 5 {
			f.get("/included", "/excluded")
		}
		assert.EqualValues(f.t, 10, f.answered)
		f.metric("flask_http_request_total", 5, "method", "GET", "status", "200")
		f.metric("flask_http_request_duration_seconds_count", 5, "method", "GET", "status", "200", "path", "/included")
		f.absent("flask_http_request_duration_seconds_count", "path", "/excluded")
	}},
	{file: "test_endpoint", test: "test_multiple_excluded_endpoints", run: func(f *flask) {
		f.metrics(Options{Prefix: "flask", ExcludedPaths: []*regexp.Regexp{regexp.MustCompile("/exc/one"),
			regexp.MustCompile("/exc/t.*")}})
		f.ok("/included")
		f.ok("/exc/one")
		f.ok("/exc/two")
		for range 5 {
			f.get("/included", "/exc/one", "/exc/two")
		}
		assert.EqualValues(f.t, 15, f.answered)
		f.metric("flask_http_request_total", 5, "method", "GET", "status", "200")
		f.metric("flask_http_request_duration_seconds_count", 5, "method", "GET", "status", "200", "path", "/included")
		f.absent("flask_http_request_duration_seconds_count", "path", "/exc/one")
		f.absent("flask_http_request_duration_seconds_count", "path", "/exc/two")
	}},
	{file: "test_endpoint", test: "test_exclude_paths_from_user_metrics", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask", ExcludedPaths: []*regexp.Regexp{regexp.MustCompile("/excluded")}})
		f.ok("/included")
		f.ok("/excluded")
		m.RegisterDefault(Must(m.Counter(prometheus.CounterOpts{Name: "by_path_counter_total"}, pathLabel)))
		for range 5 {
			f.get("/included", "/excluded")
		}
		f.metric("flask_http_request_total", 5, "method", "GET", "status", "200")
		f.metric("by_path_counter_total", 5, "path", "/included")
		f.absent("by_path_counter_total", "path", "/excluded")
		f.noFunctions()
	}},

	{file: "test_group_by", test: "test_group_by_path_default", run: func(f *flask) {
		// By path is not the default here, because there is no end to paths.
		f.metrics(Options{Prefix: "flask"})
		f.ok("/{url}")
		f.get("/default1", "/default2", "/default3")
		f.metric("flask_http_request_duration_seconds_count", 3, "path", "/{url}", "status", "200", "method", "GET")
	}},
	{file: "test_group_by", test: "test_group_by_path_default_with_summaries", run: func(f *flask) {
		f.metrics(Options{Prefix: "flask", Summary: true})
		f.ok("/{url}")
		f.get("/default1", "/default2", "/default3")
		f.metric("flask_http_request_duration_seconds_count", 3, "path", "/{url}", "status", "200", "method", "GET")
		f.some("flask_http_request_duration_seconds_sum", "path", "/{url}", "status", "200", "method", "GET")
	}},
	{file: "test_group_by", test: "test_group_by_path", run: func(f *flask) {
		f.metrics(Options{Prefix: "flask", GroupBy: ByPath})
		f.ok("/{url}")
		f.get("/test1", "/test2", "/test3")
		f.grouped("path", map[string]float64{"/test1": 1, "/test2": 1, "/test3": 1})
	}},
	{file: "test_group_by", test: "test_group_by_rule", run: func(f *flask) {
		f.metrics(Options{Prefix: "flask", GroupBy: GroupBy{Label: "url_rule", Value: ByRoute.Value}})
		f.ok("/test/{item}")
		f.ok("/get/{sample}")
		f.get("/test/1", "/test/2", "/get/1")
		f.grouped("url_rule", map[string]float64{"/test/{item}": 2, "/get/{sample}": 1})
	}},
	{file: "test_group_by", test: "test_group_by_endpoint", run: func(f *flask) {
		// A handler has no name of its own, so it is given one.
		m := f.metrics(Options{Prefix: "flask", GroupBy: GroupBy{Label: "endpoint", Value: ByRoute.Value}})
		f.handle("/{url}", m.Route("a_test_endpoint", answering(200)))
		f.get("/test", "/test2", "/test3")
		f.grouped("endpoint", map[string]float64{"a_test_endpoint": 3})
		f.absent("flask_http_request_duration_seconds_bucket", "path", "/test")
	}},
	{file: "test_group_by", test: "test_group_by_endpoint_deprecated", not: "there is no older name of the option"},
	{file: "test_group_by", test: "test_group_by_deprecated_late_warning", not: "there is no older name of the option"},
	{file: "test_group_by", test: "test_group_by_full_path", run: func(f *flask) {
		f.metrics(Options{Prefix: "flask", GroupBy: GroupBy{Label: "full_path", Value: func(e *Exchange) string {
			return e.Request.URL.RequestURI()
		}}})
		f.ok("/{url}")
		f.get("/test?x=1", "/test?x=2", "/test?x=3")
		f.grouped("full_path", map[string]float64{"/test?x=1": 1, "/test?x=2": 1, "/test?x=3": 1})
	}},
	{file: "test_group_by", test: "test_group_by_func", run: func(f *flask) {
		f.metrics(Options{Prefix: "flask", GroupBy: GroupBy{Label: "composite", Value: func(e *Exchange) string {
			kind := e.Request.URL.Query().Get("type")
			if kind == "" {
				kind = "none"
			}
			return fmt.Sprintf("%s::%s >> %s", e.Method, e.Path, kind)
		}}})
		f.ok("/{url}")
		f.get("/sample?type=A", "/sample?type=Beta")
		code, _ := do(f.t, http.MethodPost, f.url+"/plain", nil)
		require.Equal(f.t, http.StatusOK, code)
		for _, value := range []string{"GET::/sample >> A", "GET::/sample >> Beta", "POST::/plain >> none"} {
			method, _, _ := strings.Cut(value, "::")
			f.metric("flask_http_request_duration_seconds_bucket", 1, "composite", value, "status", "200", "le", "+Inf",
				"method", method)
			f.metric("flask_http_request_duration_seconds_count", 1, "composite", value, "status", "200", "method", method)
		}
	}},
	{file: "test_group_by", test: "test_group_by_lambda_is_not_supported", run: func(f *flask) {
		// There a function without a name gives no label; here the label is given, and must be.
		_, err := New(Options{Prefix: "flask", GroupBy: GroupBy{Value: ByPath.Value}})
		assert.ErrorContains(f.t, err, "no label")
		_, err = New(Options{Prefix: "flask", GroupBy: GroupBy{Label: "<lambda>", Value: ByPath.Value}})
		assert.NoError(f.t, err, "any name that is UTF-8 is a label, as client_golang has it")
		_, err = New(Options{Prefix: "flask2", GroupBy: GroupBy{Label: "\xff", Value: ByPath.Value}})
		assert.ErrorContains(f.t, err, "not a valid label name")
	}},

	{file: "test_metrics", test: "test_histogram", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask"})
		f.handle("/test/1", Must(m.Histogram(prometheus.HistogramOpts{Name: "hist_1"})).Wrap(answering(200)))
		f.handle("/test/2", Must(m.Histogram(prometheus.HistogramOpts{Name: "hist_2"}, uriLabel, codeLabel)).
			Wrap(answering(200)))
		f.handle("/test/{x}/{y}", Must(m.Histogram(prometheus.HistogramOpts{Name: "hist_3", Buckets: []float64{0.7, 2.9}},
			valueLabel("x_value", "x"), valueLabel("y_value", "y"))).Wrap(answering(200)))
		f.metric("hist_1_count", 0)
		f.get("/test/1")
		f.metric("hist_1_count", 1)
		f.metric("hist_1_bucket", 1, "le", "2.5")
		f.get("/test/2")
		f.metric("hist_2_count", 1, "uri", "/test/2", "code", "200")
		f.metric("hist_2_bucket", 1, "le", "1", "uri", "/test/2", "code", "200")
		f.get("/test/3/4")
		f.metric("hist_3_count", 1, "x_value", "3", "y_value", "4")
		f.metric("hist_3_bucket", 1, "le", "0.7", "x_value", "3", "y_value", "4")
	}},
	{file: "test_metrics", test: "test_summary", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask"})
		f.handle("/test/1", Must(m.Summary(prometheus.SummaryOpts{Name: "sum_1"})).Wrap(answering(200)))
		f.handle("/test/2", Must(m.Summary(prometheus.SummaryOpts{Name: "sum_2"}, uriLabel, codeLabel,
			Label{Name: "variant", Value: "2"})).Wrap(answering(200)))
		f.metric("sum_1_count", 0)
		f.get("/test/1")
		f.metric("sum_1_count", 1)
		f.get("/test/2")
		f.metric("sum_2_count", 1, "uri", "/test/2", "code", "200", "variant", "2")
	}},
	{file: "test_metrics", test: "test_gauge", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask"})
		f.handle("/test/1", Must(m.Gauge(prometheus.GaugeOpts{Name: "gauge_1"})).Wrap(http.HandlerFunc(
			func(http.ResponseWriter, *http.Request) { f.metric("gauge_1", 1) })))
		f.handle("/test/{a}", Must(m.Gauge(prometheus.GaugeOpts{Name: "gauge_2"}, uriLabel, valueLabel("a_value", "a"))).
			Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				f.metric("gauge_2", 1, "uri", "/test/2", "a_value", "2")
			})))
		f.metric("gauge_1", 0)
		f.get("/test/1")
		f.metric("gauge_1", 0)
		f.get("/test/2")
		f.metric("gauge_2", 0, "uri", "/test/2", "a_value", "2")
	}},
	{file: "test_metrics", test: "test_counter", run: func(f *flask) {
		m := f.metrics(Options{Prefix: "flask"})
		f.handle("/test/1", Must(m.Counter(prometheus.CounterOpts{Name: "cnt_1_total"})).Wrap(answering(200)))
		f.handle("/test/2", Must(m.Counter(prometheus.CounterOpts{Name: "cnt_2_total"}, uriLabel, codeLabel)).
			Wrap(answering(200)))
		f.metric("cnt_1_total", 0)
		for i := range 3 {
			f.get("/test/1")
			f.metric("cnt_1_total", float64(i+1))
		}
		f.get("/test/2")
		f.metric("cnt_2_total", 1, "uri", "/test/2", "code", "200")
	}},
	{file: "test_metrics", test: "test_default_format", run: func(f *flask) {
		f.format("", "text/plain; version=0.0.4", false)
	}},
	{file: "test_metrics", test: "test_openmetrics_format", run: func(f *flask) {
		f.format("application/openmetrics-text", "application/openmetrics-text; version=0.0.1", true)
	}},

	{file: "test_metric_initialization", test: "test_initial_value_no_labels", run: func(f *flask) {
		f.initialized(true, nil)
	}},
	{file: "test_metric_initialization", test: "test_initial_value_only_static_labels", run: func(f *flask) {
		f.initialized(true, []string{"label_name", "label_value"}, Label{Name: "label_name", Value: "label_value"})
	}},
	{file: "test_metric_initialization", test: "test_initial_value_only_static_labels_no_initialization",
		run: func(f *flask) {
			f.withoutInitial = true
			f.initialized(false, []string{"label_name", "label_value"}, Label{Name: "label_name", Value: "label_value"})
		}},
	{file: "test_metric_initialization", test: "test_initial_value_callable_label", run: func(f *flask) {
		f.initialized(false, []string{"path", "/test/1"}, pathLabel)
	}},

	{file: "test_blueprint", test: "test_blueprint", run: func(f *flask) {
		// A blueprint is a mux below a mux, and the metric is there before the application is.
		m := Must(New(Options{Prefix: "flask", MetricsPath: "/metrics"}))
		blueprint := http.NewServeMux()
		blueprint.Handle("/test", Must(m.Summary(prometheus.SummaryOpts{Name: "requests_by_status"}, statusLabel)).
			Wrap(answering(200)))
		f.use(m)
		f.handle("/", blueprint)
		f.get("/test")
		f.metric("requests_by_status_count", 1, "status", "200")
		f.some("requests_by_status_sum", "status", "200")
		f.metric("flask_http_request_duration_seconds_count", 1, "path", "/test", "status", "200", "method", "GET")
	}},
	{file: "test_blueprint", test: "test_restful_with_blueprints", run: func(f *flask) { f.resource() }},
	{file: "test_blueprint", test: "test_restful_return_none", run: func(f *flask) { f.resource() }},

	{file: "test_app_factory", test: "test_restricted", run: func(f *flask) {
		// The metrics are there first, and wrap an application that gets its routes later.
		m := Must(New(Options{Prefix: "flask", MetricsPath: "/metrics"}))
		f.use(m)
		f.ok("/test")
		f.get("/test")
		for _, query := range []string{"", "?name[]=flask_exporter_info"} {
			code, _ := get(f.t, f.url+"/metrics"+query)
			assert.Equal(f.t, http.StatusOK, code)
		}
		code, body := get(f.t, f.url+"/metrics?name[]=flask_http_request_duration_seconds_bucket"+
			"&name[]=flask_http_request_duration_seconds_count&name[]=flask_http_request_duration_seconds_sum")
		assert.Equal(f.t, http.StatusOK, code)
		assert.Contains(f.t, body,
			`flask_http_request_duration_seconds_bucket{method="GET",path="/test",status="200",le="0.1"} 1`)
		assert.Contains(f.t, body, `flask_http_request_duration_seconds_count{method="GET",path="/test",status="200"} 1`)
	}},

	{file: "test_extensions", test: "test_with_defaults", run: func(f *flask) {
		// There each of seven classes is made with its defaults and has the application that it was given: those for one
		// process, for Gunicorn, uWSGI, RESTful and Connexion. Here there is one type, for one process and for many, so it is
		// made in its three ways, and the application that each was given answers.
		f.ok("/test")
		for name, handler := range map[string]http.Handler{
			"New":           Must(New(Options{})).Wrap(f.mux),
			"New with path": Must(New(Options{MetricsPath: "/metrics"})).Wrap(f.mux),
			"Wrap":          Wrap(f.mux),
		} {
			code, body := get(f.t, serve(f.t, handler)+"/test")
			assert.Equal(f.t, http.StatusOK, code, name)
			assert.Equal(f.t, "OK", body, name)
		}
		f.metrics(Options{})
		f.metric("http_request_total", 3, "method", "GET", "status", "200")
		f.metric("exporter_info", 1, "version", version())
	}},
	{file: "test_extensions", test: "test_with_registry", not: "there is no registry to choose: a process has one store"},
	{file: "test_extensions", test: "test_with_other_parameters", run: func(f *flask) {
		// There each of seven classes keeps path, export_defaults, defaults_prefix and default_labels as it was given them;
		// the classes for several processes drop the path. Here there is one type, and what it was given is what it does.
		f.endpoint = "/testing"
		m := f.metrics(Options{MetricsPath: "/testing", NoDefaults: true, Prefix: "unittest",
			Labels: []Label{{Name: "testing", Value: "1"}}})
		f.handle("/test", Must(m.Counter(prometheus.CounterOpts{Name: "test_counter_total"})).Wrap(answering(200)))
		f.get("/test")
		code, _ := get(f.t, f.url+"/metrics")
		assert.Equal(f.t, http.StatusNotFound, code)
		f.metric("test_counter_total", 1, "testing", "1")
		for _, prefix := range []string{"unittest_", "flask_", ""} {
			for _, name := range []string{"exporter_info", "http_request_total", "http_request_duration_seconds_count"} {
				f.absent(prefix + name)
			}
		}
		f.metrics(Options{MetricsPath: "/testing", Prefix: "unittest", Labels: []Label{{Name: "testing", Value: "1"}}})
		f.get("/test")
		f.metric("unittest_http_request_total", 1, "method", "GET", "status", "200", "testing", "1")
	}},
	{file: "test_extensions", test: "test_prometheus_multiproc_env_var_change",
		not: "the store is named by the master, and there is no older name of the variable"},
}

func TestFlask(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range flaskTests {
		name := c.file + "/" + c.test
		require.False(t, seen[name], name)
		seen[name] = true
		if c.run == nil {
			require.NotEmpty(t, c.not, name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if alone(t) {
				c.run(&flask{t: t, mux: http.NewServeMux(), endpoint: "/metrics"})
			}
		})
	}
	require.Len(t, seen, 67, "the tests that prometheus_flask_exporter has")
}

// flask is an application, as the tests there begin with one.
type flask struct {
	t        *testing.T
	mux      *http.ServeMux
	endpoint string
	url      string // of the server, once there is one
	handler  http.Handler

	before         func(http.ResponseWriter, *http.Request) bool // asked first, where it is not nil
	answered       int64
	withoutInitial bool
}

// none is the MetricsPath of tests that want no endpoint.
const none = "/none"

// metrics makes Metrics, with the endpoint at /metrics unless o has another, and puts them around the application.
func (f *flask) metrics(o Options) *Metrics {
	switch o.MetricsPath {
	case "":
		o.MetricsPath = "/metrics"
	case none:
		o.MetricsPath = ""
	}
	m, err := New(o)
	require.NoError(f.t, err)
	f.use(m)
	return m
}

func (f *flask) use(m *Metrics) {
	f.handler = m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.before == nil || f.before(w, r) {
			f.mux.ServeHTTP(w, r)
		}
	}))
	if f.url == "" {
		f.url = serve(f.t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.handler.ServeHTTP(w, r) }))
	}
}

func (f *flask) handle(pattern string, h http.Handler) { f.mux.Handle(pattern, h) }

func (f *flask) route(pattern string, h http.HandlerFunc) { f.mux.Handle(pattern, h) }

// ok is a route that answers OK and counts itself.
func (f *flask) ok(pattern string) {
	f.route(pattern, func(w http.ResponseWriter, _ *http.Request) {
		f.answered++
		fmt.Fprint(w, "OK")
	})
}

func (f *flask) get(paths ...string) {
	f.t.Helper()
	for _, p := range paths {
		get(f.t, f.url+p)
	}
}

func (f *flask) samples() samples {
	f.t.Helper()
	code, body := get(f.t, f.url+f.endpoint)
	require.Equal(f.t, http.StatusOK, code)
	return parse(f.t, body)
}

// metric asserts that the scrape has a sample with just these labels and that value.
func (f *flask) metric(name string, want float64, labels ...string) {
	f.t.Helper()
	s := f.samples()
	value, ok := s[sample(name, labels...)]
	assert.True(f.t, ok, "%s is not in %v", sample(name, labels...), s.of(name))
	assert.Equal(f.t, want, value, sample(name, labels...))
}

// some asserts that there is such a sample, and that it is more than 0.
func (f *flask) some(name string, labels ...string) {
	f.t.Helper()
	assert.Positive(f.t, f.samples()[sample(name, labels...)], sample(name, labels...))
}

// absent asserts that the scrape has no sample of that name with these labels, whatever others it has.
func (f *flask) absent(name string, labels ...string) {
	f.t.Helper()
	for k := range f.samples().of(name + "{") {
		match := true
		for i := 0; i < len(labels); i += 2 {
			match = match && strings.Contains(","+strings.TrimSuffix(k, "}")+",", fmt.Sprintf(",%s=%q,", labels[i], labels[i+1]))
		}
		assert.False(f.t, match, "%s{%s", name, k)
	}
}

// created asserts that OpenMetrics knows since when a counter counts; a _created line is optional there.
func (f *flask) created(name string, labels ...string) {
	f.t.Helper()
	families, err := worker.Gatherer().Gather()
	require.NoError(f.t, err)
	for _, mf := range families {
		if mf.GetName() == name+"_total" {
			require.Len(f.t, mf.Metric, 1)
			assert.Equal(f.t, sample(name, labels...), key(name, mf.Metric[0]))
			assert.Positive(f.t, mf.Metric[0].Counter.GetCreatedTimestamp().GetSeconds())
			return
		}
	}
	assert.Fail(f.t, "there is no "+name)
}

// noFunctions asserts that no label has the name of its function as its value, as "<lambda>" there and "func1" here.
func (f *flask) noFunctions() {
	f.t.Helper()
	_, body := get(f.t, f.url+f.endpoint)
	assert.NotRegexp(f.t, `<lambda>|\bfunc\d|0x[0-9a-f]{6}|httpmetrics\.`, body)
}

func (f *flask) summarized(n float64) {
	f.t.Helper()
	labels := []string{"method", "GET", "path", "/test", "status", "200"}
	f.some("flask_http_request_duration_seconds_sum", labels...)
	f.metric("flask_http_request_duration_seconds_count", n, labels...)
	f.absent("flask_http_request_duration_seconds_bucket")
}

func (f *flask) grouped(label string, counts map[string]float64) {
	f.t.Helper()
	for value, n := range counts {
		f.metric("flask_http_request_duration_seconds_bucket", n, label, value, "status", "200", "le", "+Inf",
			"method", "GET")
		f.metric("flask_http_request_duration_seconds_count", n, label, value, "status", "200", "method", "GET")
	}
}

func (f *flask) format(accept, contentType string, openMetrics bool) {
	f.t.Helper()
	f.metrics(Options{Prefix: "flask"})
	f.ok("/example")
	f.get("/example", "/example", "/example", "/example", "/example")
	req, err := http.NewRequest(http.MethodGet, f.url+"/metrics", nil)
	require.NoError(f.t, err)
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(f.t, err)
	defer resp.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	require.NoError(f.t, err)
	assert.Equal(f.t, http.StatusOK, resp.StatusCode)
	assert.Contains(f.t, resp.Header.Get("Content-Type"), contentType)
	assert.Equal(f.t, openMetrics, strings.Contains(body.String(), "# EOF"))
	assert.Regexp(f.t, `flask_http_request_duration_seconds_count\{[^}]+\} 5`, body.String())
}

// initialized tests all four types, as that file does.
func (f *flask) initialized(before bool, labels []string, own ...Label) {
	f.t.Helper()
	m := f.metrics(Options{Prefix: "flask"})
	for _, c := range []struct {
		path, name string
		after      float64
		metric     *Metric
	}{
		{"/test/1", "metric_1_count", 1, Must(m.Histogram(prometheus.HistogramOpts{Name: "metric_1"}, own...))},
		{"/test/1", "metric_2_count", 1, Must(m.Summary(prometheus.SummaryOpts{Name: "metric_2"}, own...))},
		{"/test/1", "metric_3", 0, Must(m.Gauge(prometheus.GaugeOpts{Name: "metric_3"}, own...))},
		{"/test/1", "metric_4_total", 1, Must(m.Counter(prometheus.CounterOpts{Name: "metric_4_total"}, own...))},
	} {
		if f.withoutInitial {
			c.metric.WithoutInitialValue()
		}
		f.mux = http.NewServeMux()
		f.handle(c.path, c.metric.Wrap(answering(200)))
		if before {
			f.metric(c.name, 0, labels...)
		} else {
			f.absent(c.name)
		}
		f.get(c.path)
		f.metric(c.name, c.after, labels...)
	}
}

// resource is a RESTful one below a prefix, that answers 200 or, asked to fail, 400 without a body.
func (f *flask) resource() {
	m := f.metrics(Options{Prefix: "flask"})
	s := Must(m.Summary(prometheus.SummaryOpts{Name: "requests_by_status"}, statusLabel))
	api := http.NewServeMux()
	api.Handle("GET /sample", s.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("fail") {
			w.Header().Set("X-Error", "Test error")
			w.WriteHeader(http.StatusBadRequest)
		}
	})))
	f.handle("/v1/", http.StripPrefix("/v1", api))
	f.get("/v1/sample", "/v1/sample", "/v1/sample?fail=1")
	f.metric("requests_by_status_count", 2, "status", "200")
	f.some("requests_by_status_sum", "status", "200")
	f.metric("requests_by_status_count", 1, "status", "400")
	f.some("requests_by_status_sum", "status", "400")
}

func customPrefix(f *flask) {
	f.metrics(Options{Prefix: "www"})
	f.ok("/test")
	f.absent("flask_exporter_info")
	f.metric("www_exporter_info", 1, "version", version())
	f.get("/test", "/test")
	f.absent("flask_http_request_total")
	f.metric("www_http_request_total", 2, "method", "GET", "status", "200")
	f.metric("www_http_request_duration_seconds_count", 2, "method", "GET", "path", "/test", "status", "200")
}

func lateDefaults(f *flask) {
	f.metrics(Options{NoDefaults: true})
	f.ok("/test")
	f.get("/test", "/test")
	for _, prefix := range []string{"flask", "late"} {
		f.absent(prefix + "_exporter_info")
		f.absent(prefix + "_http_request_total")
		f.absent(prefix + "_http_request_exceptions_total")
	}
	f.metrics(Options{Prefix: "late"})
	f.metric("late_exporter_info", 1, "version", version())
	f.get("/test", "/test", "/test")
	f.metric("late_http_request_total", 3, "method", "GET", "status", "200")
	f.metric("late_http_request_duration_seconds_count", 3, "method", "GET", "path", "/test", "status", "200")
	f.absent("flask_http_request_exceptions_total")
}

// restricted asks for everything, for one family, and for another by the names of its samples.
func restricted(t *testing.T, ask func(names ...string) string) {
	all := []string{"flask_exporter_info", "flask_http_request_total", "flask_http_request_duration_seconds"}
	body := ask()
	for _, name := range all {
		assert.Contains(t, body, name)
	}
	body = ask("flask_exporter_info")
	assert.Contains(t, body, all[0])
	assert.NotContains(t, body, all[1])
	assert.NotContains(t, body, all[2])
	names := []string{all[2] + "_bucket", all[2] + "_count", all[2] + "_sum"}
	body = ask(names...)
	assert.NotContains(t, body, all[0])
	assert.NotContains(t, body, all[1])
	for _, name := range names {
		assert.Contains(t, body, name)
	}
}

// answering returns a handler that answers with a status.
func answering(status int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
}

var (
	staticLabels = []Label{{Name: "app_name", Value: "Test-App"}, {Name: "api_version", Value: "1"}}

	statusLabel = Label{Name: "status", Func: func(e *Exchange) string { return strconv.Itoa(e.Status) }}
	codeLabel   = Label{Name: "code", Func: statusLabel.Func}
	pathLabel   = Label{Name: "path", Func: func(e *Exchange) string { return e.Path }}
	uriLabel    = Label{Name: "uri", Func: pathLabel.Func}
)

func valueLabel(name, parameter string) Label {
	return Label{Name: name, Func: func(e *Exchange) string { return e.Request.PathValue(parameter) }}
}
