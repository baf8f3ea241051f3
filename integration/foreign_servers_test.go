package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestForeignServers runs a Flask application under Gunicorn and under uWSGI, four workers that are replaced every few
// dozen requests, loaded with wrk, and scrapes it through serve, which compacts: every request is counted, nothing goes
// back over the workers' recycling, files do not grow in number, and live gauges are those of the living.
func TestForeignServers(t *testing.T) {
	long(t)
	pythonInterpreter(t)
	if exec.Command("/usr/bin/python3", "-c", "import flask").Run() != nil {
		missing(t, "/usr/bin/python3 has no flask (Debian: apt-get install python3-flask)")
	}
	peers, err := filepath.Abs(filepath.Join("testdata", "peers"))
	require.NoError(t, err)
	servers := map[string]func(t *testing.T, addr string) *exec.Cmd{
		"gunicorn": func(t *testing.T, addr string) *exec.Cmd {
			return exec.Command(peer(t, "gunicorn", "gunicorn"), "--workers", "4", "--bind", addr, "--preload",
				"--max-requests", "40", "--max-requests-jitter", "20", "--log-level", "warning", "app:app")
		},
		"uwsgi": func(t *testing.T, addr string) *exec.Cmd {
			uwsgi := peer(t, "uwsgi", "uwsgi uwsgi-plugin-python3")
			if plugins, _ := filepath.Glob("/usr/lib/uwsgi/plugins/python3*_plugin.so"); len(plugins) == 0 {
				missing(t, "uwsgi has no plugin for Python (Debian: apt-get install uwsgi-plugin-python3)")
			}
			return exec.Command(uwsgi, "--plugin", "python3", "--http-socket", addr, "--module", "app:app", "--master",
				"--processes", "4", "--max-requests", "300", "--min-worker-lifetime", "0", "--die-on-term", "--need-app",
				"--disable-logging")
		},
	}
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			dir, ledger := filepath.Join(t.TempDir(), "metrics"), filepath.Join(t.TempDir(), "ledger")
			// Whoever scrapes may be there first.
			url := startServe(t, "--python-dir", dir, "--compact")
			require.NoError(t, os.Mkdir(dir, 0o755))
			addr := freeAddress(t)
			cmd := start(t, addr)
			cmd.Dir = peers
			server := launch(t, cmd, "PROMETHEUS_MULTIPROC_DIR="+dir, "LEDGER="+ledger, "PYTHONPATH="+peers,
				"PYTHONDONTWRITEBYTECODE=1")
			eventually(t, "the application", func() bool { _, _, err := get("http://" + addr + "/"); return err == nil })
			// Its first scrapes come before the directory has anything.
			eventually(t, "its metrics", func() bool { return mustScrape(t, url).sum("app_requests_total") > 0 })

			m := startMonitor(url, monitorOptions{Ignore: []string{"onescrape_store_"}})
			out, err := exec.Command(peer(t, "wrk", "wrk"), "-t", "1", "-c", "8", "-d", "5s",
				"http://"+addr+"/load").CombinedOutput()
			require.NoError(t, err, "%s", out)
			completed := regexp.MustCompile(`(\d+) requests in`).FindSubmatch(out)
			require.NotNil(t, completed, "%s", out)
			answered, err := strconv.Atoi(string(completed[1]))
			require.NoError(t, err)
			require.Positive(t, answered, "%s", out)

			// Requests that wrk has given up are still answered and counted.
			requests := func() int {
				b, err := os.ReadFile(ledger)
				require.NoError(t, err)
				return len(b)
			}
			for before := -1; before != requests(); time.Sleep(300 * time.Millisecond) {
				before = requests()
			}
			f := mustScrape(t, url)
			assert.Equal(t, float64(requests()), f.sum("app_requests_total"))
			assert.Equal(t, uint64(requests()), f["app_request_seconds"].Metric[0].Histogram.GetSampleCount())
			load := f.sum("app_requests_total", "path", "/load")
			assert.GreaterOrEqual(t, load, float64(answered))
			t.Logf("%s: wrk has %d answers, %v were counted", name, answered, load)

			// One file for each type and gauge of the living, and of the master that made the metrics before it forked.
			eventually(t, "compaction", func() bool { return len(dbFiles(t, dir)) <= 4*(4+1) })

			// Those that answered wrk may all have been replaced.
			_, _, err = get("http://" + addr + "/")
			require.NoError(t, err)
			var pids []string
			eventually(t, "as many workers in the sum as there are pids", func() bool { // two scrapes, between which one may start
				pids = livePIDs(t, url)
				return len(pids) > 0 && float64(len(pids)) == mustScrape(t, url).sum("app_alive")
			})
			victim, err := strconv.Atoi(pids[0])
			require.NoError(t, err)
			require.NoError(t, syscall.Kill(victim, syscall.SIGKILL))
			eventually(t, "the killed worker's gauges to go", func() bool {
				return !strings.Contains(strings.Join(livePIDs(t, url), " "), pids[0])
			})
			assert.Equal(t, float64(requests()), mustScrape(t, url).sum("app_requests_total"))
			m.stop(t)
			// Master and workers at once, as the end of a container.
			require.NoError(t, syscall.Kill(-server.cmd.Process.Pid, syscall.SIGKILL))
			server.wait()
			eventually(t, "the rest to be compacted", func() bool { return len(dbFiles(t, dir)) == 0 })
			f = mustScrape(t, url)
			assert.Equal(t, float64(requests()), f.sum("app_requests_total"))
			assert.Empty(t, livePIDs(t, url))
		})
	}
}

// startServe starts serve with these flags and returns the URL of the metrics.
func startServe(t *testing.T, flags ...string) string {
	t.Helper()
	addr := freeAddress(t)
	s := launch(t, exec.Command(onescrape, append([]string{"serve", "--web.listen-address", addr}, flags...)...))
	url := "http://" + addr + "/metrics"
	eventually(t, "the endpoint", func() bool {
		_, err := scrape(url)
		select {
		case <-s.exited:
			require.FailNow(t, "serve has ended", "%s", s.stderr.String())
		default:
		}
		return err == nil
	})
	return url
}

// dbFiles returns the files that client_python sees in a directory.
func dbFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.db"))
	require.NoError(t, err)
	return files
}

var pidLine = regexp.MustCompile(`(?m)^app_worker\{pid="(\d+)"\} 1$`)

// livePIDs returns the processes that have the liveall gauge.
func livePIDs(t *testing.T, url string) (pids []string) {
	t.Helper()
	_, body, err := get(url)
	require.NoError(t, err)
	for _, m := range pidLine.FindAllSubmatch(body, -1) {
		pids = append(pids, string(m[1]))
	}
	return pids
}

// The scrape goes on and says what it left out, in words that help.
func TestServeForeignErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("a: {type: gauge, agregation: max}\n"), 0o644))
	for _, test := range []struct {
		flags []string
		want  string
	}{
		{[]string{}, "which store?"},
		{[]string{"--python-dir", file}, "is a file"},
		{[]string{"--python-dir", dir, "--python-dir", dir + "/"}, "given twice"},
		{[]string{"--python-dir", dir, "--compact", "--no-store.fold"}, "contradict"},
		{[]string{"--ruby-dir", dir, "--ruby-definitions", file}, "agregation"},
		{[]string{"--ruby-dir", dir, "--ruby-definitions", file + "x"}, "no such file"},
	} {
		cmd := exec.Command(onescrape, append([]string{"serve", "--web.listen-address", "127.0.0.1:0"}, test.flags...)...)
		out, err := cmd.CombinedOutput()
		assert.Error(t, err)
		assert.Contains(t, string(out), test.want)
		assert.Equal(t, 1, bytes.Count(out, []byte("\n")), "%s", out)
	}
}

// Definitions in a file make of client_ruby's files what the application's metrics are.
func TestServeRubyDefinitions(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "metrics.yml")
	require.NoError(t, os.WriteFile(file, []byte(checkedBlock(t, "docs/python-and-ruby.md", "yaml")), 0o644))
	for pid, v := range map[string]float64{"7": 3, "8": 4} {
		for name, b := range map[string][]byte{
			"jobs_waiting":    entryFile(true, entry{"queue=mail", []float64{v, 1}}),
			"request_seconds": entryFile(true, entry{"le=5", []float64{v, 1}}, entry{"le=sum", []float64{2 * v, 1}}),
		} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("metric_%s___%s.bin", name, pid)), b, 0o644))
		}
	}
	_, body, err := get(startServe(t, "--ruby-dir", dir, "--ruby-definitions", file))
	require.NoError(t, err)
	assert.Contains(t, string(body), `# HELP jobs_waiting Jobs that wait.
# TYPE jobs_waiting gauge
jobs_waiting{queue="mail"} 4
`)
	assert.Contains(t, string(body), `# HELP request_seconds Time that requests took.
# TYPE request_seconds histogram
request_seconds_bucket{le="0.1"} 0
request_seconds_bucket{le="0.5"} 0
request_seconds_bucket{le="1"} 0
request_seconds_bucket{le="5"} 7
request_seconds_bucket{le="+Inf"} 7
request_seconds_sum 14
request_seconds_count 7
`)
}

// Gunicorn as a worker of ours, with the metrics of its application in the master's scrape: nothing that was counted is
// lost over a rolling restart.
func TestRunGunicornMetrics(t *testing.T) {
	long(t)
	pythonInterpreter(t)
	gunicorn := peer(t, "gunicorn", "gunicorn")
	peers, err := filepath.Abs(filepath.Join("testdata", "peers"))
	require.NoError(t, err)
	dir := t.TempDir()
	s := startRun(t, []string{"PROMETHEUS_MULTIPROC_DIR=" + dir, "LEDGER=" + filepath.Join(t.TempDir(), "ledger"),
		"PYTHONPATH=" + peers, "PYTHONDONTWRITEBYTECODE=1"}, 2, []string{"--python-dir", dir, "--compact"},
		gunicorn, "--workers", "1", "app:app")
	n := 0
	requests := func() {
		t.Helper()
		for range 20 {
			code, _, err := get("http://" + s.app + "/")
			require.NoError(t, err)
			require.Equal(t, 200, code)
			n++
		}
		assert.Equal(t, float64(n), mustScrape(t, s.metrics).sum("app_requests_total"))
	}
	requests()
	r := command(t, "reload", "--store.path", s.store)
	require.Equal(t, 0, r.status, r.stderr)
	requests()
	assert.Equal(t, 2.0, mustScrape(t, s.metrics).sum("onescrape_workers", "state", "ready"))
	s.signal(os.Interrupt)
	assert.Equal(t, 0, s.wait())
}

// Only the owner of a file, or who has CAP_LEASE, can find out that nobody uses it. Anybody else reads and says so.
func TestServeForeignWithoutLeases(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be two users")
	}
	addr := freeAddress(t)
	cmd := exec.Command(onescrape, "serve", "--web.listen-address", addr, "--compact")
	dir := asNobody(t, cmd)
	cmd.Args = append(cmd.Args, "--python-dir", dir)
	b := entryFile(false, entry{`["c", "c_total", {}, "help"]`, []float64{5}})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "counter_4194304.db"), b, 0o644))
	s := launch(t, cmd)
	eventually(t, "the log to say it", func() bool { return strings.Contains(s.stderr.String(), "CAP_LEASE") })
	assert.Contains(t, s.stderr.String(), "counter_4194304.db belongs to uid 0")
	url := "http://" + addr + "/metrics"
	eventually(t, "the endpoint", func() bool { _, err := scrape(url); return err == nil })
	assert.Equal(t, 5.0, mustScrape(t, url).sum("c_total"))
	assert.Len(t, dbFiles(t, dir), 1)
}
