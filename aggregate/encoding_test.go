package aggregate

import (
	"bytes"
	"log/slog"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
)

// An encoding that is refused by q=0 is no error: nothing is logged, and the encoding is the one that promhttp chooses.
func TestHandlerLogsNoRefusedEncoding(t *testing.T) {
	var log bytes.Buffer
	s := openStore(t, newDir(t), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	h := s.Handler(HandlerOptions{})
	want := promhttp.HandlerFor(prometheus.NewRegistry(), promhttp.HandlerOpts{})
	for _, accept := range []string{
		"gzip;q=0", "identity;q=0", "*;q=0", "gzip; q=0.000", "gzip;q=0,zstd;q=0", "zstd;q=0,gzip", "*;q=0,zstd;q=0.5",
		"gzip;q=0.1", "gzip;q=0,*", "identity;q=0,gzip;q=0.5,zstd;q=0.7", "", "gzip;q=nonsense", "br;q=0,deflate",
	} {
		for _, format := range []string{"", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"} {
			w := get(h, "", "Accept-Encoding", accept, "Accept", format)
			assert.Equal(t, http.StatusOK, w.Code, accept)
			assert.Equal(t, get(want, "", "Accept-Encoding", accept).Header().Get("Content-Encoding"),
				w.Header().Get("Content-Encoding"), accept)
		}
	}
	assert.Empty(t, log.String())
}
