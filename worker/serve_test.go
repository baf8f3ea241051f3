package worker

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// selfSigned returns a certificate for 127.0.0.1, and what trusts it.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(s.Certificate())
	return s.TLS.Certificates[0], trusted
}

// ServeTLS drains as Serve does, with HTTP/2 too, and takes certificates from files or from the server's configuration.
func TestServeTLS(t *testing.T) {
	cert, trusted := selfSigned(t)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))

	for _, test := range []struct {
		name, proto string
		files       bool
	}{
		{"HTTP/1.1 with files", "HTTP/1.1", true},
		{"HTTP/1.1 with a configuration", "HTTP/1.1", false},
		{"HTTP/2 with files", "HTTP/2.0", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("ONESCRAPE_LINGER", "1ms")
			w, stop := alone(t, "127.0.0.1:0")
			url := "https://" + w.Listeners()[0].Addr().String()
			entered, release := make(chan struct{}), make(chan struct{})
			mux := http.NewServeMux()
			mux.HandleFunc("/slow", func(rw http.ResponseWriter, _ *http.Request) {
				close(entered)
				<-release
				io.WriteString(rw, "slow")
			})
			mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, r.Proto) })
			srv := &http.Server{Handler: mux}
			served := make(chan error, 1)
			if test.files {
				go func() { served <- w.ServeTLS(srv, certFile, keyFile) }()
			} else {
				srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
				go func() { served <- w.ServeTLS(srv, "", "") }()
			}

			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted},
				ForceAttemptHTTP2: test.proto == "HTTP/2.0"}}
			get := func(path string) (string, error) {
				r, err := client.Get(url + path)
				if err != nil {
					return "", err
				}
				defer r.Body.Close()
				body, err := io.ReadAll(r.Body)
				return string(body), err
			}
			body, err := get("/")
			require.NoError(t, err)
			assert.Equal(t, test.proto, body)

			type answer struct {
				body string
				err  error
			}
			slow := make(chan answer, 1)
			go func() {
				body, err := get("/slow")
				slow <- answer{body, err}
			}()
			<-entered
			stop()
			<-w.Draining()
			close(release)
			assert.Equal(t, answer{"slow", nil}, <-slow)
			require.NoError(t, <-served)
			_, err = get("/")
			assert.Error(t, err, "nobody listens any more")
		})
	}

	w, _ := alone(t, "127.0.0.1:0")
	err = w.ServeTLS(&http.Server{}, filepath.Join(dir, "missing"), keyFile)
	assert.ErrorContains(t, err, "worker: serve: open "+filepath.Join(dir, "missing")+": no such file or directory")
}
