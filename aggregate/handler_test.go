package aggregate

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

func handlerStore(t *testing.T) *Store {
	dir := newDir(t)
	p := startLocal(t, dir, 0)
	p.do(action{Do: "add", Family: counterFamily("c_total"), V: 1.5}, action{Do: "set", Family: gaugeFamily("ü.g",
		shmstore.Sum), V: 1},
		action{Do: "observe", Family: histogramFamily("h", []float64{1}), V: 1})
	return openStore(t, dir, Options{})
}

func get(h http.Handler, query string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/metrics?"+query, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHandlerNegotiates(t *testing.T) {
	s := handlerStore(t)
	h := s.Handler(HandlerOptions{CreatedLines: true})

	w := get(h, "")
	assert.Equal(t, http.StatusOK, w.Code)
	assert.Contains(t, w.Header().Get("Content-Type"), "text/plain; version=0.0.4")
	assert.Contains(t, w.Body.String(), "c_total 1.5\n")
	assert.Contains(t, w.Body.String(), "\n__g 1\n", "names are escaped for who does not say that it takes UTF-8")

	w = get(h, "", "Accept", "text/plain;version=1.0.0;escaping=allow-utf-8")
	assert.Contains(t, w.Body.String(), "{\"ü.g\"} 1\n")

	w = get(h, "", "Accept", "application/openmetrics-text;version=1.0.0")
	assert.Contains(t, w.Header().Get("Content-Type"), "application/openmetrics-text; version=1.0.0")
	assert.Contains(t, w.Body.String(), "# TYPE c counter\nc_total 1.5\nc_created ")
	assert.True(t, strings.HasSuffix(w.Body.String(), "# EOF\n"))
	assert.NotContains(t, get(s.Handler(HandlerOptions{}), "", "Accept",
		"application/openmetrics-text;version=1.0.0").Body.String(), "c_created")

	w = get(h, "", "Accept", string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
	decoder := expfmt.NewDecoder(w.Body, expfmt.ResponseFormat(w.Header()))
	types := map[string]dto.MetricType{}
	for {
		var mf dto.MetricFamily
		err := decoder.Decode(&mf)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		types[mf.GetName()] = mf.GetType()
	}
	assert.Equal(t, dto.MetricType_HISTOGRAM, types["h"])
	assert.Len(t, types, 3+7)

	for encoding, open := range map[string]func(io.Reader) (io.Reader, error){
		"gzip": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"zstd": func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
	} {
		w := get(h, "", "Accept-Encoding", encoding)
		require.Equal(t, encoding, w.Header().Get("Content-Encoding"))
		r, err := open(w.Body)
		require.NoError(t, err)
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		assert.Contains(t, string(b), "c_total 1.5\n")
	}
	assert.Empty(t, get(s.Handler(HandlerOptions{DisableCompression: true}), "", "Accept-Encoding",
		"gzip").Header().Get("Content-Encoding"))
}

func TestHandlerFilters(t *testing.T) {
	h := handlerStore(t).Handler(HandlerOptions{})
	assert.Equal(t, "# HELP c_total Help of c_total.\n# TYPE c_total counter\nc_total 1.5\n"+
		"# HELP onescrape_store_series Series in the store's files that are merged, before the merge.\n"+
		"# TYPE onescrape_store_series gauge\nonescrape_store_series 3\n",
		get(h, "name[]=c_total&name[]=onescrape_store_series&name[]=nobody").Body.String())
	w := get(h, "name[]=nobody")
	assert.Equal(t, http.StatusOK, w.Code)
	assert.Empty(t, w.Body.String())
}

func TestHandlerLimitsItself(t *testing.T) {
	s := handlerStore(t)
	h := s.Handler(HandlerOptions{MaxRequestsInFlight: 2})
	s.mu.Lock()
	// Scrapes that wait longer than they may are given up, but hold their places.
	for range 2 {
		w := get(h, "", timeoutHeader, "0.01")
		assert.Equal(t, http.StatusServiceUnavailable, w.Code)
		assert.Contains(t, w.Body.String(), "longer than 10ms")
	}
	w := get(h, "")
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.Contains(t, w.Body.String(), "Limit of concurrent requests reached (2)")
	s.mu.Unlock()
	require.Eventually(t, func() bool { return get(h, "").Code == http.StatusOK }, 10*time.Second, time.Millisecond)
	require.NoError(t, s.Close())
	assert.Equal(t, http.StatusInternalServerError, get(h, "").Code)
}

// A scraper that does not read its answer keeps nobody else from being answered.
func TestScraperThatDoesNotReadHoldsNoPlace(t *testing.T) {
	s := handlerStore(t)
	h := s.Handler(HandlerOptions{MaxRequestsInFlight: 1})
	for _, timeout := range []string{"", "60"} {
		slow, done := askSlowly(h, timeout)
		assert.Equal(t, http.StatusOK, get(h, "").Code)
		close(slow.read)
		<-done
		assert.Equal(t, http.StatusOK, slow.Code)
		assert.Subset(t, slow.Header()["Vary"], []string{"Origin", "Accept-Encoding"})
	}
}

func TestUnsentAnswersAreBounded(t *testing.T) {
	s := handlerStore(t)
	h := s.Handler(HandlerOptions{}).(*handler)
	length := int64(get(h, "").Body.Len())
	h.maxUnsent = 2 * length
	first, firstDone := askSlowly(h, "")
	second, secondDone := askSlowly(h, "")
	w := get(h, "")
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.Contains(t, w.Body.String(), "scrapers that do not read")
	close(first.read)
	<-firstDone
	assert.Equal(t, http.StatusOK, get(h, "").Code)
	close(second.read)
	<-secondDone
	h.maxUnsent = length / 2
	assert.Equal(t, http.StatusOK, get(h, "").Code, "a single answer may be longer")
	assert.Zero(t, h.unsent.Load())
}

// askSlowly sends a request for metrics, and returns when the answer is about to be written.
func askSlowly(h http.Handler, timeout string) (slow *slowReader, done chan struct{}) {
	slow = &slowReader{httptest.NewRecorder(), make(chan struct{}), make(chan struct{})}
	slow.Header().Set("Vary", "Origin")
	done = make(chan struct{})
	go func() {
		defer close(done)
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set(timeoutHeader, timeout)
		h.ServeHTTP(slow, r)
	}()
	<-slow.wrote
	return slow, done
}

// slowReader is who is asked for metrics and does not read them yet.
type slowReader struct {
	*httptest.ResponseRecorder
	wrote, read chan struct{}
}

func (s *slowReader) Write(b []byte) (int, error) {
	close(s.wrote)
	<-s.read
	return s.ResponseRecorder.Write(b)
}

func TestTimeout(t *testing.T) {
	tests := []struct {
		option time.Duration
		header string
		want   time.Duration
		ok     bool
	}{
		{0, "", 10 * time.Second, true},
		{0, "2.5", 2500 * time.Millisecond, true},
		{0, "60", 10 * time.Second, true},
		{time.Second, "60", time.Second, true},
		{-1, "60", time.Minute, true},
		{-1, "1e300", 0, false},
		{-1, "", 0, false},
		{0, "0", 10 * time.Second, true},
		{0, "-1", 10 * time.Second, true},
		{0, "NaN", 10 * time.Second, true},
		{0, "soon", 10 * time.Second, true},
	}
	for _, test := range tests {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set(timeoutHeader, test.header)
		got, ok := HandlerOptions{Timeout: test.option}.timeout(r)
		assert.Equal(t, test.ok, ok, "%+v", test)
		if ok {
			assert.Equal(t, test.want, got, "%+v", test)
		}
	}
}
