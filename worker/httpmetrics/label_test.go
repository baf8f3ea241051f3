package httpmetrics

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a label function does wrong never breaks a request, and shows.
func TestBadLabels(t *testing.T) {
	long := strings.Repeat("ä", 1000)
	for _, c := range []struct {
		name          string
		value         func(*Exchange) string
		want          string
		errors, extra float64
	}{
		{name: "panics", value: func(*Exchange) string { panic("x") }, want: "error", errors: 1},
		{name: "panics with nil request", value: func(e *Exchange) string { return e.Request.Response.Status }, want: "error",
			errors: 1},
		{name: "is no UTF-8", value: func(*Exchange) string { return "a\xffb" }, want: "a\uFFFDb"},
		{name: "is empty", value: func(*Exchange) string { return "" }, want: ""},
		{name: "is long", value: func(*Exchange) string { return long }, want: long[:maxValue]},
		{name: "is cut within a letter", value: func(*Exchange) string { return "x" + long }, want: "x" + long[:maxValue-2]},
		{name: "has what must be escaped", value: func(*Exchange) string { return "a\"b\\c\nd" }, want: "a\"b\\c\nd"},
		{name: "names itself other", value: func(*Exchange) string { return "other" }, want: "other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			prefix := fresh()
			m := Must(New(Options{Prefix: prefix, Labels: []Label{{Name: "l", Func: c.value}}}))
			custom := Must(m.Counter(prometheus.CounterOpts{Name: prefix + "_calls_total"}))
			url := serve(t, m.Wrap(m.Route("/x", custom.Wrap(answering(202)))))
			for range 2 {
				code, _ := get(t, url+"/x")
				require.Equal(t, 202, code)
			}
			s := counter(t, prefix)(2)
			assert.Equal(t, 2.0, s[sample("http_request_total", "method", "GET", "status", "202", "l", c.want)])
			assert.Equal(t, 2.0, s[sample("http_request_duration_seconds_count", "method", "GET", "path", "/x", "status", "202",
				"l", c.want)])
			assert.Equal(t, 2.0, s[sample("calls_total", "l", c.want)])
			// Asked for the counter, the duration and the metric of its own, of each request.
			assert.Equal(t, 6*c.errors, s[sample("http_label_errors_total", "label", "l")])
			assert.True(t, utf8.ValidString(c.want))
		})
	}
}

// Whatever a value is, what becomes of it can be a label's.
func FuzzLabelValue(f *testing.F) {
	m := Must(New(Options{NoDefaults: true, Prefix: fresh()}))
	for _, v := range []string{
		"", "a", "\xff", "a\xc3", strings.Repeat("ä", 200), strings.Repeat("x", 255) + "\xe2\x82\xac",
	} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got := m.newLabel("l", nil, 1).admit(value)
		assert.True(t, utf8.ValidString(got), "%q of %q", got, value)
		assert.LessOrEqual(t, len([]rune(got)), maxValue)
		if utf8.ValidString(value) && len(value) <= maxValue {
			assert.Equal(t, value, got)
		}
		assert.True(t, strings.HasPrefix(strings.ToValidUTF8(value, string(utf8.RuneError)), strings.TrimRight(got,
			string(utf8.RuneError))), "%q of %q", got, value)
	})
}

// A client that invents paths, methods and header values makes no more series than the limits let it.
func TestLimits(t *testing.T) {
	if !alone(t) {
		return
	}
	prefix := fresh()
	m := Must(New(Options{Prefix: prefix, GroupBy: ByPath, Labels: []Label{
		{Name: "tenant", Limit: 3, Func: func(e *Exchange) string { return e.Request.Header.Get("Tenant") }},
		{Name: "any", Limit: -1, Func: func(e *Exchange) string { return e.Request.Header.Get("Tenant") }},
	}}))
	h := m.Wrap(answering(200))
	w := &cheapWriter{http.Header{}}
	const n = 1500
	for range 2 {
		for i := range n {
			r, err := http.NewRequest(fmt.Sprint("M", i), fmt.Sprint("/", i), nil)
			require.NoError(t, err)
			r.Header.Set("Tenant", fmt.Sprint(i))
			h.ServeHTTP(w, r)
		}
	}
	s := scraped(t).of(prefix + "_")
	values := func(label string) map[string]float64 {
		found := map[string]float64{}
		for k, v := range s.of("http_request_duration_seconds_count{") {
			_, rest, _ := strings.Cut(","+k, ","+label+`="`)
			value, _, _ := strings.Cut(rest, `"`)
			found[value] += v
		}
		return found
	}
	assert.Equal(t, map[string]float64{"other": 2 * n}, values("method"))
	assert.Equal(t, map[string]float64{"0": 2, "1": 2, "2": 2, "other": 2 * (n - 3)}, values("tenant"))
	assert.Len(t, values("any"), n)
	paths := values("path")
	assert.Len(t, paths, defaultLimit+1)
	assert.Equal(t, 2.0*(n-defaultLimit), paths["other"])
	assert.Equal(t, 2.0*(n-defaultLimit), s[sample("http_label_overflows_total", "label", "path")])
	assert.Equal(t, 2*2.0*(n-3), s[sample("http_label_overflows_total", "label", "tenant")],
		"of the counter and the duration")
	assert.Zero(t, s[sample("http_label_overflows_total", "label", "any")])
}

// What is wrong about a metric is an error where it is made.
func TestBadDefinitions(t *testing.T) {
	prefix := fresh()
	m := Must(New(Options{Prefix: prefix, Labels: []Label{{Name: "all", Value: "1"}}}))
	name := prefix + "_calls_total"
	_, err := m.Counter(prometheus.CounterOpts{Name: name}, Label{Name: "a", Func: pathLabel.Func})
	require.NoError(t, err)
	_, err = m.Counter(prometheus.CounterOpts{Name: name}, Label{Name: "a", Func: statusLabel.Func})
	assert.NoError(t, err, "the same again")
	for what, define := range map[string]func() error{
		"other labels": func() error {
			_, err := m.Counter(prometheus.CounterOpts{Name: name}, Label{Name: "b", Func: pathLabel.Func})
			return err
		},
		"another type": func() error {
			_, err := m.Summary(prometheus.SummaryOpts{Name: name}, Label{Name: "a", Func: pathLabel.Func})
			return err
		},
		"another help": func() error {
			_, err := m.Counter(prometheus.CounterOpts{Name: name, Help: "x"}, Label{Name: "a", Func: pathLabel.Func})
			return err
		},
		"a label of all metrics again": func() error {
			_, err := m.Gauge(prometheus.GaugeOpts{Name: prefix + "_g"}, Label{Name: "all", Value: "2"})
			return err
		},
		"a constant label of all metrics again": func() error {
			_, err := m.Gauge(prometheus.GaugeOpts{Name: prefix + "_g", ConstLabels: prometheus.Labels{"all": "2"}})
			return err
		},
		"buckets that fall": func() error {
			_, err := m.Histogram(prometheus.HistogramOpts{Name: prefix + "_h", Buckets: []float64{2, 1}})
			return err
		},
		"the label le": func() error {
			_, err := m.Histogram(prometheus.HistogramOpts{Name: prefix + "_h"}, Label{Name: "le", Value: "1"})
			return err
		},
		"no name": func() error { _, err := m.Counter(prometheus.CounterOpts{}); return err },
	} {
		err := define()
		assert.ErrorContains(t, err, "httpmetrics: metric ", what)
	}

	for what, o := range map[string]Options{
		"the same names with other labels": {Prefix: prefix},
		"the same names with other buckets": {Prefix: prefix, Labels: []Label{{Name: "all", Value: "1"}},
			Buckets: []float64{1}},
		"a label twice":              {Prefix: fresh(), Labels: []Label{{Name: "a"}, {Name: "a"}}},
		"the label status":           {Prefix: fresh(), Labels: []Label{{Name: "status", Func: pathLabel.Func}}},
		"the group method":           {Prefix: fresh(), GroupBy: GroupBy{Label: "method", Value: ByPath.Value}},
		"a group without a function": {Prefix: fresh(), GroupBy: GroupBy{Label: "x"}},
		"a factor below 1":           {Prefix: fresh(), NativeFactor: 0.5},
		"a path without a slash":     {Prefix: fresh(), MetricsPath: "metrics"},
		"no name at all":             {Prefix: "\xff"},
	} {
		_, err := New(o)
		assert.ErrorContains(t, err, "httpmetrics: ", what)
		assert.Panics(t, func() { Must(New(o)) }, what)
	}
	assert.Panics(t, func() {
		m.RegisterDefault(Must(Must(New(Options{Prefix: fresh()})).Counter(prometheus.CounterOpts{Name: prefix + "_x"})))
	}, "a metric of others")
}

// An exemplar comes from the request; one that cannot be costs no observation.
func TestExemplars(t *testing.T) {
	type trace struct{}
	for _, c := range []struct {
		name string
		give func(*Exchange) prometheus.Labels
		want string
		bad  float64
	}{
		{name: "from the context", give: func(e *Exchange) prometheus.Labels {
			id, _ := e.Request.Context().Value(trace{}).(string)
			return prometheus.Labels{"trace_id": id}
		}, want: "abc"},
		{name: "none", give: func(*Exchange) prometheus.Labels { return nil }},
		{name: "panics", give: func(*Exchange) prometheus.Labels { panic(errors.New("x")) }, bad: 1},
		{name: "is too long", give: func(*Exchange) prometheus.Labels {
			return prometheus.Labels{"trace_id": strings.Repeat("x", 200)}
		}, bad: 1},
	} {
		for _, summary := range []bool{false, true} {
			prefix := fresh()
			m := Must(New(Options{Prefix: prefix, Exemplar: c.give, Summary: summary}))
			h := m.Wrap(answering(200))
			r := request(t)
			r = r.WithContext(contextWith(r, trace{}, "abc"))
			h.ServeHTTP(&cheapWriter{http.Header{}}, r)
			s := scraped(t).of(prefix + "_")
			total, _ := s.statuses(t)
			assert.Equal(t, map[string]float64{"200": 1}, total, c.name)
			if summary {
				continue // which has no exemplars
			}
			assert.Equal(t, c.bad, s[sample("http_label_errors_total", "label", "exemplar")], c.name)
			var text strings.Builder
			contentType, err := m.Generate(&text, "application/openmetrics-text; version=1.0.0", prefix+
				"_http_request_duration_seconds")
			require.NoError(t, err)
			assert.Contains(t, contentType, "application/openmetrics-text; version=1.0.0")
			assert.Equal(t, c.want != "", strings.Contains(text.String(), ` # {trace_id="`+c.want+`"} `),
				"%s: %s", c.name, &text)
		}
	}
}

// What a label function sees of an exchange, and when.
func TestWhatLabelsSee(t *testing.T) {
	prefix := fresh()
	see := func(e *Exchange) string {
		return fmt.Sprintf("%s %s %s %d %d/%d %v %v %s", e.Method, e.Path, e.Route, e.Status, e.RequestSize, e.ResponseSize,
			e.Duration > 0, e.Panicked, e.ResponseHeader().Get("X"))
	}
	label := Label{Name: "seen", Func: see}
	m := Must(New(Options{Prefix: prefix}))
	c := Must(m.Counter(prometheus.CounterOpts{Name: prefix + "_counter"}, label))
	g := Must(m.Gauge(prometheus.GaugeOpts{Name: prefix + "_gauge"}, label))
	s := Must(m.Summary(prometheus.SummaryOpts{Name: prefix + "_summary"}, label))
	mux := http.NewServeMux()
	mux.Handle("POST /a/{b}", c.Wrap(g.Wrap(s.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X", "y")
		w.WriteHeader(201)
		fmt.Fprint(w, "hello")
	})))))
	resp, err := http.Post(serve(t, m.Wrap(mux))+"/a/1", "", strings.NewReader("abc"))
	require.NoError(t, err)
	resp.Body.Close()
	all := counter(t, prefix)(1)
	assert.Equal(t, 1.0, all[sample("counter", "seen", "POST /a/1 /a/{b} 201 3/0 false false y")], all)
	assert.Equal(t, 0.0, all[sample("gauge", "seen", "POST /a/1  0 3/0 false false ")], all.of("gauge"))
	assert.Contains(t, all, sample("gauge", "seen", "POST /a/1  0 3/0 false false "))
	assert.Equal(t, 1.0, all[sample("summary_count", "seen", "POST /a/1 /a/{b} 201 3/5 true false y")], all)
}

// A table finds what was put in, from many goroutines while others put more.
func TestTable(t *testing.T) {
	var tb table[int]
	var made atomic.Int64
	const n = 2000
	done := make(chan bool)
	for g := range 4 {
		go func() {
			defer func() { done <- true }()
			for i := range n {
				key := (i*7 + g*13) % n
				values := []string{fmt.Sprint(key), "x"}
				got := tb.add(uint32(key%5), values, func() int { made.Add(1); return key })
				assert.Equal(t, key, got)
				found, ok := tb.find(uint32(key%5), values)
				assert.True(t, ok)
				assert.Equal(t, key, found)
				_, ok = tb.find(uint32(key%5)+5, values)
				assert.False(t, ok)
			}
		}()
	}
	for range 4 {
		<-done
	}
	assert.EqualValues(t, n, made.Load())
}
