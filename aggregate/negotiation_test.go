package aggregate

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/onescrape/onescrape/shmstore"
)

// response is what a scraper gets, unpacked.
type response struct {
	status                int
	contentType, encoding string
	body                  string
}

// scrape asks over HTTP and takes the answer as it comes.
func scrape(t *testing.T, base, query string, headers map[string]string) response {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, base+"/?"+query, nil)
	require.NoError(t, err)
	req.Header.Set("Accept-Encoding", "identity") // or Go would ask for gzip and hide it
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer answer.Body.Close()
	r := response{answer.StatusCode, answer.Header.Get("Content-Type"), answer.Header.Get("Content-Encoding"), ""}
	var body io.Reader = answer.Body
	switch r.encoding {
	case "gzip":
		body, err = gzip.NewReader(body)
	case "zstd":
		body, err = zstd.NewReader(body)
	}
	require.NoError(t, err)
	all, err := io.ReadAll(body)
	require.NoError(t, err)
	r.body = string(all)
	return r
}

// TestEveryFormat asks our handler and promhttp's for each combination of format, escaping, compression and filter: the
// answers are the same, and where expfmt can read a format back, they are what Gather says.
func TestEveryFormat(t *testing.T) {
	dir := newDir(t)
	p := startLocal(t, dir, 0)
	h := histogramFamily("h", []float64{1}, "l.x")
	p.do(
		action{Do: "add", Family: counterFamily("c_total", "l"), Values: []string{"a\"\n\\ü"}, V: 1.5},
		action{Do: "exemplar", Family: counterFamily("c_total", "l"), Values: []string{"a\"\n\\ü"}, V: 1.5, At: 1e18, Trace: "t"},
		action{Do: "set", Family: gaugeFamily("ü.g", shmstore.All), V: 1},
		action{Do: "observe", Family: h, Values: []string{"v"}, V: 3},
		action{Do: "exemplar", Family: h, Values: []string{"v"}, V: 3, At: 2e18, Trace: "ü\""},
		action{Do: "observe", Family: summaryFamily("s"), V: 3},
		action{Do: "set", Family: shmstore.Family{Name: "u", Help: "U.", Type: shmstore.UntypedType, Mode: shmstore.Sum}, V: 7},
	)
	s := openStore(t, dir, Options{})
	encodings := []string{"identity", "gzip", "zstd", "gzip;q=0.1,zstd", "br", ""}
	if testing.Short() {
		encodings = encodings[1:2]
	}
	for _, created := range []bool{false, true} {
		ours := httptest.NewServer(s.Handler(HandlerOptions{CreatedLines: created}))
		defer ours.Close()
		theirs := httptest.NewServer(promhttp.HandlerFor(s, promhttp.HandlerOpts{EnableOpenMetrics: true,
			EnableOpenMetricsTextCreatedSamples: created}))
		defer theirs.Close()
		for _, accept := range []string{"", "*/*", "text/plain", "text/plain;version=0.0.4", "text/plain;version=1.0.0",
			"application/openmetrics-text", "application/openmetrics-text;version=1.0.0",
			"application/openmetrics-text;version=0.0.1", "application/openmetrics-text;version=1.0.0;q=0.1,text/plain",
			string(expfmt.NewFormat(expfmt.TypeProtoDelim)), string(expfmt.NewFormat(expfmt.TypeProtoText)),
			string(expfmt.NewFormat(expfmt.TypeProtoCompact)), "application/json", "nonsense"} {
			for _, escaping := range []string{"", ";escaping=allow-utf-8", ";escaping=underscores", ";escaping=dots",
				";escaping=values", ";escaping=nonsense"} {
				for _, encoding := range encodings {
					for _, query := range []string{"", url.Values{"name[]": {"ü.g", "h", "nobody"}}.Encode()} {
						headers := map[string]string{"Accept": accept + escaping, "Accept-Encoding": encoding}
						want := scrape(t, theirs.URL, query, headers)
						require.Equal(t, want, scrape(t, ours.URL, query, headers), "%s %v", query, headers)
					}
				}
			}
		}
	}
	families, err := s.Gather()
	require.NoError(t, err)
	server := httptest.NewServer(s.Handler(HandlerOptions{}))
	defer server.Close()
	for _, format := range []expfmt.Format{
		"text/plain;version=1.0.0;escaping=allow-utf-8",
		expfmt.NewFormat(expfmt.TypeProtoDelim) + ";escaping=allow-utf-8",
	} {
		answer := scrape(t, server.URL, "", map[string]string{"Accept": string(format), "Accept-Encoding": "zstd"})
		require.Equal(t, http.StatusOK, answer.status)
		decoder := expfmt.NewDecoder(bytes.NewReader([]byte(answer.body)), expfmt.Format(answer.contentType))
		got := map[string]*dto.MetricFamily{}
		for {
			mf := new(dto.MetricFamily)
			if err := decoder.Decode(mf); errors.Is(err, io.EOF) {
				break
			} else {
				require.NoError(t, err)
			}
			got[mf.GetName()] = mf
		}
		require.Len(t, got, len(families))
		for _, want := range families {
			mf := got[want.GetName()]
			if expfmt.Format(answer.contentType).FormatType() == expfmt.TypeProtoDelim {
				assert.True(t, proto.Equal(want, mf), "%v\n%v", want, mf)
				continue
			}
			assert.Equal(t, asText(t, want), asText(t, mf))
		}
	}
}

func asText(t *testing.T, mf *dto.MetricFamily) string {
	var b bytes.Buffer
	_, err := expfmt.MetricFamilyToText(&b, mf)
	require.NoError(t, err)
	return b.String()
}

// The handler of a store's path is as good in another process than the one that folds, and in any number.
func TestHandlerOfAPath(t *testing.T) {
	dir := newDir(t)
	p := startLocal(t, dir, 0)
	p.do(action{Do: "add", Family: counterFamily("c_total"), V: 2})
	for range 2 {
		s, err := Open(dir, Options{ReadOnly: true})
		require.NoError(t, err)
		server := httptest.NewServer(s.Handler(HandlerOptions{}))
		assert.Contains(t, scrape(t, server.URL, "", nil).body, "c_total 2\n")
		p.do(action{Do: "add", Family: counterFamily("c_total"), V: 1})
		assert.Contains(t, scrape(t, server.URL, "name[]=c_total", nil).body, "c_total 3\n")
		server.Close()
		require.NoError(t, s.Close())
		p.do(action{Do: "word", Family: counterFamily("c_total"), V: 0}, action{Do: "add", Family: counterFamily("c_total"), V: 2})
	}
}
