package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/worker"
	"github.com/onescrape/onescrape/worker/httpmetrics"
)

// serveMeasured is a worker measured by httpmetrics, with the endpoint on the application as well.
func serveMeasured() error {
	w, err := worker.FromEnvironment(context.Background())
	if err != nil {
		return err
	}
	m, err := httpmetrics.New(httpmetrics.Options{MetricsPath: "/metrics", InFlight: true, Sizes: true,
		Labels: []httpmetrics.Label{{Name: "service", Value: "test"}}})
	if err != nil {
		return err
	}
	var n atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /page/{n}", func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1)%7 == 0 {
			w.WriteHeader(http.StatusNotFound)
		}
		fmt.Fprintln(w, r.PathValue("n"))
	})
	return w.Serve(&http.Server{Handler: m.Wrap(mux)})
}

// Every request that was answered is counted, over workers that are killed and a rolling restart under load; and any
// worker's own endpoint has the same as the master's.
func TestHTTPMetricsAreExact(t *testing.T) {
	long(t)
	argv, env := asRole("measured")
	s := startRun(t, env, 3, []string{"--linger", "100ms", "--ready-settle", "0s"}, argv...)
	m := startMonitor(s.metrics, monitorOptions{Ignore: []string{"go_", "process_"}})
	l := startLoad(s.app, 6, true, "/page/1", "/page/2", "/nowhere")
	answered := func(n int64) {
		t.Helper()
		least := l.answered.Load() + n
		eventually(t, "some load", func() bool { return l.answered.Load() >= least })
	}
	for range times(5) {
		answered(200)
		if err := syscall.Kill(s.workers()[0], syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) { // it may have just ended
			require.NoError(t, err)
		}
		eventually(t, "three workers", func() bool { return len(s.workers()) == 3 })
	}
	s.signal(syscall.SIGHUP)
	eventually(t, "a rolling restart", func() bool {
		r := s.status().Rollout
		return r != nil && r.State == "done"
	})
	answered(200)
	l.stop()
	m.stop(t)

	f := mustScrape(t, s.metrics)
	total := f.sum("http_request_total", "service", "test")
	assert.GreaterOrEqual(t, total, float64(l.answered.Load()), "who has an answer finds it counted")
	assert.LessOrEqual(t, total, float64(l.sent.Load()), "failed: %v", l.failures())

	// From here on nothing is killed, and all is known exactly.
	l = startLoad(s.app, 6, false, "/page/1", "/page/2", "/nowhere")
	answered(500)
	l.stop()
	require.Zero(t, l.failed.Load(), "%v", l.failures())
	want := total + float64(l.answered.Load())
	assert.Equal(t, want, mustScrape(t, s.metrics).sum("http_request_total"))
	observed := func() float64 { return mustScrape(t, s.metrics).observed("http_request_duration_seconds") }
	lost := total - f.observed("http_request_duration_seconds")
	assert.GreaterOrEqual(t, lost, 0.0)
	eventually(t, "the last durations", func() bool { return want-observed() <= lost })

	for range 6 { // of whichever worker
		own := mustScrape(t, "http://"+s.app+"/metrics")
		assert.Equal(t, want, own.sum("http_request_total"), "a scrape is no request; the master has %v: %v",
			mustScrape(t, s.metrics).sum("http_request_total"), own)
		assert.Equal(t, own.observed("http_response_size_bytes"), own.observed("http_request_duration_seconds"))
	}
	eventually(t, "nothing in flight", func() bool { return mustScrape(t, s.metrics).sum("http_requests_in_flight") == 0 })
}

// The program in the documentation is built as it is there, and serves; only the ports are others.
func TestDocsHTTPMetrics(t *testing.T) {
	long(t)
	text, err := os.ReadFile("../docs/http-metrics.md")
	require.NoError(t, err)
	found := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(string(text), -1)
	require.Len(t, found, 1)
	s := newServer(t)
	const there = `Listen: []string{":8080"}`
	require.Contains(t, found[0][1], there)
	program := strings.Replace(found[0][1], there, `Listen: []string{"`+s.app+`"}, MetricsListen: "`+
		strings.TrimPrefix(s.base, "http://")+`", Store: "`+s.store+`"`, 1)
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "server")
	require.NoError(t, os.WriteFile(source, []byte(program), 0o644))
	require.NoError(t, build(binary, source))
	s.process = launch(t, exec.Command(binary))
	s.waitReady()
	assert.Equal(t, 0.0, mustScrape(t, s.metrics).sum("in_progress"))
	for _, path := range []string{"/", "/skip", "/kind/a", "/kind/b", "/long-running", "/secret", "/static/style.css"} {
		code, _, err := get("http://" + s.app + path)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, code)
	}
	f := mustScrape(t, s.metrics)
	assert.Equal(t, 2.0, f.sum("http_request_total"))
	assert.Equal(t, 1.0, f.sum("invocations_by_kind_total", "kind", "a"))
	assert.Equal(t, 1.0, f.sum("app_info", "version", "1.0.3"))
}
