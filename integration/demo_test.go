package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDemoRoutes(t *testing.T) {
	s := startDemo(t, 2)
	for _, c := range []struct {
		path string
		code int
		text string
	}{
		{"/", 200, "hello from slot"},
		{"/work?ms=1", 200, "worked for"},
		{"/work?ms=-1", 400, "give milliseconds"},
		{"/work?ms=soon", 400, "give milliseconds"},
		{"/status/204", 204, ""},
		{"/status/418", 418, "418"},
		{"/status/503", 503, "503"},
		{"/status/99", 400, "status code"},
		{"/panic", 500, "Internal Server Error"},
		{"/nowhere", 404, "not found"},
	} {
		code, body, err := get("http://" + s.app + c.path)
		require.NoError(t, err, c.path)
		assert.Equal(t, c.code, code, c.path)
		assert.Contains(t, string(body), c.text, c.path)
	}
	before := s.workers()
	_, _, err := get("http://" + s.app + "/crash")
	require.Error(t, err, "the process died before it could answer")
	eventually(t, "the dead worker's successor", func() bool {
		pids := s.workers()
		return len(pids) == 2 && (pids[0] != before[0] || pids[1] != before[1])
	})

	f := mustScrape(t, s.metrics)
	for _, c := range []struct {
		route, code string
		n           float64
	}{
		{"/", "200", 1}, {"/work", "200", 1}, {"/work", "400", 2}, {"/status", "204", 1}, {"/status", "418", 1},
		{"/status", "503", 1}, {"/status", "400", 1}, {"/panic", "500", 1}, {"/crash", "500", 1}, {"other", "404", 1},
	} {
		assert.Equal(t, c.n, f.sum("demo_requests_total", "route", c.route, "code", c.code), c)
	}
	assert.Equal(t, 0.0, f.sum("demo_in_flight"))
	assert.InDelta(t, float64(time.Now().Unix()), f.sum("demo_last_request_timestamp_seconds"), 300)
	_, broken := f.rising()
	assert.Empty(t, broken)
}

func TestDemoSaysWhatToTry(t *testing.T) {
	s := startDemo(t, 2)
	eventually(t, "the welcome", func() bool { return strings.Contains(s.stdout.String(), "Ctrl-C") })
	text := s.stdout.String()
	assert.Contains(t, text, "http://"+s.app)
	assert.Contains(t, text, s.metrics)
	commands := 0
	for line := range strings.Lines(text) {
		cmd, _, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok || !strings.HasPrefix(cmd, "curl") || strings.Contains(cmd, "/crash") {
			continue
		}
		out, err := exec.Command("sh", "-c", cmd).CombinedOutput()
		assert.NoError(t, err, "%s: %s", cmd, out)
		commands++
	}
	assert.GreaterOrEqual(t, commands, 5)
}

func TestHealthAndReadiness(t *testing.T) {
	s := startDemo(t, 1)
	for _, path := range []string{"/-/healthy", "/-/ready", "/metrics", "/api/v1/status"} {
		code, _, err := get(s.base + path)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, code, path)
	}
	st := s.status()
	assert.Equal(t, s.pid(), st.PID)
	assert.True(t, st.Ready)
	require.Len(t, st.Slots, 1)
	assert.Equal(t, "ready", st.Slots[0].State)
}

func TestStop(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			s := startDemo(t, 2)
			pids := s.workers()
			s.signal(sig)
			assert.Equal(t, 0, s.wait(), s.stderr.String())
			for _, pid := range pids {
				assert.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH, "worker %d outlived its master", pid)
			}
			_, err := dial(s.app)
			assert.Error(t, err)
		})
	}
}

// A stop lets what is being answered be answered.
func TestStopIsGraceful(t *testing.T) {
	long(t)
	s := startDemo(t, 2)
	type answer struct {
		code int
		err  error
	}
	answers := make(chan answer)
	go func() {
		code, _, err := get("http://" + s.app + "/work?ms=1000")
		answers <- answer{code, err}
	}()
	eventually(t, "the request to arrive", func() bool { return mustScrape(t, s.metrics).sum("demo_in_flight") == 1 })
	s.signal(syscall.SIGTERM)
	assert.Equal(t, answer{code: 200}, <-answers)
	assert.Equal(t, 0, s.wait())
}

// startPrometheus starts a real one that scrapes the target, and returns the URL of its API.
func startPrometheus(t *testing.T, target string, flags ...string) string {
	t.Helper()
	return startPrometheusWith(t, `
global: {scrape_interval: 500ms, scrape_timeout: 500ms}
scrape_configs:
  - job_name: demo
    static_configs: [{targets: ["`+target+`"]}]
`, flags...)
}

// startPrometheusWith is startPrometheus with a whole configuration.
func startPrometheusWith(t *testing.T, configuration string, flags ...string) string {
	t.Helper()
	program := peer(t, "prometheus", "prometheus")
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(config, []byte(configuration), 0o644))
	addr := freeAddress(t)
	launch(t, exec.Command(program, append([]string{
		"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + addr,
	}, flags...)...))
	api := "http://" + addr
	eventually(t, "Prometheus to be ready", func() bool {
		code, _, err := get(api + "/-/ready")
		return err == nil && code == http.StatusOK
	})
	return api
}

// query is what Prometheus's API gives for an expression with one value; false while it gives none.
func query(t *testing.T, api, expr string) (float64, bool) {
	t.Helper()
	_, body, err := get(api + "/api/v1/query?query=" + url.QueryEscape(expr))
	require.NoError(t, err)
	var answer struct {
		Status string
		Data   struct {
			Result []struct{ Value [2]any }
		}
	}
	require.NoError(t, json.Unmarshal(body, &answer), "%s", body)
	require.Equal(t, "success", answer.Status, "%s", body)
	if len(answer.Data.Result) == 0 {
		return 0, false
	}
	v, err := strconv.ParseFloat(fmt.Sprint(answer.Data.Result[0].Value[1]), 64)
	require.NoError(t, err)
	return v, true
}

func TestPrometheusScrapesTheDemo(t *testing.T) {
	long(t)
	s := startDemo(t, 4)
	api := startPrometheus(t, strings.TrimPrefix(s.base, "http://"))

	// Requests of net/http's own client, from 8 goroutines, for as long as it takes Prometheus to scrape several times.
	var answered atomic.Int64
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for i := range 8 {
		clients.Go(func() {
			client := &http.Client{Timeout: deadline, Transport: &http.Transport{DisableKeepAlives: i%2 == 0}}
			defer client.CloseIdleConnections()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := client.Get("http://" + s.app + []string{"/", "/work?ms=2", "/status/404", "/panic"}[n%4])
				if !assert.NoError(t, err) {
					return
				}
				_, err = io.Copy(io.Discard, resp.Body)
				assert.NoError(t, err)
				resp.Body.Close()
				answered.Add(1)
			}
		})
	}
	eventually(t, "five scrapes of a rising sum", func() bool {
		n, _ := query(t, api, `max(count_over_time(demo_requests_total{route="/"}[1m]))`)
		return n >= 5
	})
	close(stop)
	clients.Wait()

	want := float64(answered.Load())
	var got float64
	eventually(t, "the last scrape", func() bool {
		got, _ = query(t, api, "sum(demo_requests_total)")
		require.LessOrEqual(t, got, want, "Prometheus has counted requests that were never answered")
		return got == want
	})
	t.Logf("%v requests answered, Prometheus has %v", want, got)
	count, _ := query(t, api, "sum(demo_request_duration_seconds_count)")
	assert.Equal(t, want, count)
	resets, _ := query(t, api, "sum(resets(demo_requests_total[1m]))")
	assert.Equal(t, 0.0, resets)
}

func TestPromtoolHasNoComplaint(t *testing.T) {
	promtool := peer(t, "promtool", "prometheus")
	s := startDemo(t, 2)
	for _, path := range []string{"/", "/work?ms=1", "/status/404", "/panic"} {
		_, _, err := get("http://" + s.app + path)
		require.NoError(t, err)
	}
	code, text, err := get(s.metrics)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = bytes.NewReader(text)
	out, err := cmd.CombinedOutput()
	assert.NoError(t, err, "%s", out)
	assert.Empty(t, string(out))
}
