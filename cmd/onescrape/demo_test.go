package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/master"
)

// Without a master the demo's metrics are in this process's memory, and the same handler counts there.
func TestDemoCounts(t *testing.T) {
	d := newDemo(slog.New(slog.DiscardHandler))
	srv := httptest.NewServer(d.routes(0))
	defer srv.Close()
	for _, c := range []struct {
		path, route, code string
		status            int
	}{
		{"/", "/", "200", 200},
		{"/work?ms=0", "/work", "200", 200},
		{"/work?ms=NaN", "/work", "400", 400},
		{"/work?ms=1e9", "/work", "400", 400},
		{"/status/201", "/status", "201", 201},
		{"/status/204", "/status", "204", 204},
		{"/status/304", "/status", "304", 304},
		{"/status/100", "/status", "400", 400},
		{"/status/x", "/status", "400", 400},
		{"/panic", "/panic", "500", 500},
		{"/else", "other", "404", 404},
	} {
		counter := d.requests.WithLabelValues(c.route, c.code)
		before := testutil.ToFloat64(counter)
		resp, err := http.Get(srv.URL + c.path)
		require.NoError(t, err, c.path)
		_, err = io.Copy(io.Discard, resp.Body)
		assert.NoError(t, err, c.path)
		resp.Body.Close()
		assert.Equal(t, c.status, resp.StatusCode, c.path)
		assert.Equal(t, before+1, testutil.ToFloat64(counter), c.path)
	}
	assert.Equal(t, 0.0, testutil.ToFloat64(d.inFlight))
}

// Half an answer must not look like a whole one, and is counted once, as what its status line said.
func TestDemoPanicAfterTheAnswerBegan(t *testing.T) {
	d := newDemo(slog.New(slog.DiscardHandler))
	srv := httptest.NewServer(d.route("/half", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		panic("no more")
	}))
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	assert.Error(t, err)
	assert.Equal(t, 1.0, testutil.ToFloat64(d.requests.WithLabelValues("/half", "202")))
	assert.Equal(t, 0.0, testutil.ToFloat64(d.requests.WithLabelValues("/half", "500")))
	assert.Equal(t, 0.0, testutil.ToFloat64(d.inFlight))
}

func TestWelcome(t *testing.T) {
	text := welcomeText(master.Config{
		Listen: []string{":8080"}, MetricsListen: "0.0.0.0:9464", TelemetryPath: "/m", Store: "/s", Workers: 4,
	})
	for _, want := range []string{"http://127.0.0.1:8080", "http://127.0.0.1:9464/m", "--store.path /s", "4 workers"} {
		assert.Contains(t, text, want)
	}
	off := master.Config{Listen: []string{"web=unix:/run/a.sock"}, MetricsListen: "off", Store: "/s"}
	assert.Contains(t, welcomeText(off), "--unix-socket /run/a.sock http://demo")
	program, err := os.Executable()
	require.NoError(t, err)
	t.Setenv("PATH", t.TempDir())
	assert.Contains(t, welcomeText(off), "\n    "+program+" inspect --store.path /s\n", "what go run has built is in no PATH")
	require.NoError(t, os.WriteFile(filepath.Join(os.Getenv("PATH"), "onescrape"), nil, 0o755))
	assert.Contains(t, welcomeText(off), "\n    onescrape inspect --store.path /s\n")
}
