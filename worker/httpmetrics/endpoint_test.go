package httpmetrics

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/worker"
)

func gathered(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	all, err := worker.Gatherer().Gather()
	require.NoError(t, err)
	families := map[string]*dto.MetricFamily{}
	for _, f := range all {
		families[f.GetName()] = f
	}
	return families
}

// basicAuth is what somebody may put around the endpoint.
func basicAuth(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "alice" || password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// The endpoint is where the options say, behind the authentication, and measures nothing of itself.
func TestEndpoint(t *testing.T) {
	prefix := fresh()
	m := Must(New(Options{Prefix: prefix, MetricsPath: "/numbers", Auth: basicAuth}))
	url := serve(t, m.Wrap(answering(200)))
	code, body := get(t, url+"/metrics")
	assert.Equal(t, 200, code, "of the application")
	assert.Empty(t, body)
	code, _ = get(t, url+"/numbers")
	assert.Equal(t, 401, code)
	r, err := http.NewRequest(http.MethodGet, "/numbers", nil)
	require.NoError(t, err)
	r.SetBasicAuth("alice", "secret")
	code, body = do(t, http.MethodGet, url+"/numbers", r.Header)
	assert.Equal(t, 200, code)
	assert.Contains(t, body, prefix+"_http_request_total")
	assert.Contains(t, body, "process_cpu_seconds_total", "and what the default registry has")
	assert.Contains(t, body, "go_goroutines")
	total, _ := counter(t, prefix)(1).statuses(t)
	assert.Equal(t, map[string]float64{"200": 1}, total)

	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	assert.Equal(t, 401, w.Code)
}

// On a port of its own, with TLS, the endpoint is alone.
func TestListenAndServeTLS(t *testing.T) {
	known := httptest.NewTLSServer(nil) // has a certificate for loopback
	defer known.Close()
	pair := known.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key},
	} {
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	}

	m := Must(New(Options{Prefix: fresh()}))
	addr := freeAddress(t)
	go m.ListenAndServeTLS(addr, certFile, keyFile)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: known.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs,
	}}}
	defer client.CloseIdleConnections()
	eventually(t, "the server", func() bool {
		resp, err := client.Get("https://" + addr + "/metrics")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
	resp, err := client.Get("https://" + addr + "/")
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, 404, resp.StatusCode)
	assert.ErrorContains(t, m.ListenAndServe(addr), "address already in use")
}

// Generate writes what an Accept header asks for.
func TestGenerate(t *testing.T) {
	prefix := fresh()
	m := Must(New(Options{Prefix: prefix}))
	m.Wrap(answering(200)).ServeHTTP(&cheapWriter{http.Header{}}, request(t))
	for accept, want := range map[string]expfmt.FormatType{
		"":                             expfmt.TypeTextPlain,
		"text/plain":                   expfmt.TypeTextPlain,
		"application/openmetrics-text": expfmt.TypeOpenMetrics,
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited": expfmt.TypeProtoDelim,
	} {
		var out bytes.Buffer
		contentType, err := m.Generate(&out, accept, prefix+"_http_request_total")
		require.NoError(t, err)
		assert.Equal(t, want, expfmt.Format(contentType).FormatType(), accept)
		assert.Contains(t, out.String(), prefix+"_http_request")
		assert.NotContains(t, out.String(), "_duration_seconds")
	}
	_, err := m.Generate(failingWriter{}, "")
	assert.ErrorContains(t, err, "httpmetrics: generate: ")
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, os.ErrClosed }
