package integration

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// buildModule builds the program of a folder that is a module of its own, or is in this one.
func buildModule(t *testing.T, dir, pkg string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "server")
	cmd := exec.Command("go", "build", "-o", binary, pkg)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "dial tcp") {
			missing(t, "the modules of %s cannot be had: %s", dir, out)
		}
		require.NoError(t, err, "%s", out)
	}
	return binary
}

// One line measures a prefork server of each framework, and all of it is in one scrape: below this project's master,
// and below the frameworks' own.
func TestFrameworks(t *testing.T) {
	long(t)
	if race {
		t.Skip("the programs are other ones, with or without the race detector here")
	}
	for _, c := range []struct {
		name, dir, pkg string
		route          string // what it calls /job/{kind}
		panics         int    // the status that /panic is answered with; 0: the connection breaks
		prefork        bool   // the framework's own master
	}{
		{"net/http", ".", "./examples/web", "/job/{kind}", 0, false},
		{"chi", "chi", "./server", "/job/{kind}", 500, false},
		{"gorilla", "../worker/httpmetrics/gorillametrics", "./server", "/job/{kind}", 0, false},
		{"gin", "../worker/httpmetrics/ginmetrics", "./server", "/job/:kind", 500, false},
		{"echo", "../worker/httpmetrics/echometrics", "./server", "/job/:kind", 500, false},
		{"Fiber", "../worker/httpmetrics/fibermetrics", "./server", "/job/:kind", 500, false},
		{"Fiber's own master", "../worker/httpmetrics/fibermetrics", "./server", "/job/:kind", 500, true},
		{"fasthttp", "../worker/httpmetrics/fasthttpmetrics", "./server", "/job/{kind}", 0, false},
		{"fasthttp's own master", "../worker/httpmetrics/fasthttpmetrics", "./server", "/job/{kind}", 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t)
			args := []string{"-listen", s.app, "-metrics", strings.TrimPrefix(s.base, "http://"), "-store", s.store}
			if c.prefork {
				args = append(args, "-prefork")
			} else {
				args = append(args, "-workers", "3")
			}
			s.process = launch(t, exec.Command(buildModule(t, c.dir, c.pkg), args...))
			n := 0.0
			if c.prefork {
				eventually(t, "both ports", func() bool {
					require.True(t, s.alive(), "%s", s.stderr.String())
					code, _, err := get("http://" + s.app + "/job/first")
					if err != nil || code != http.StatusOK {
						return false
					}
					n++
					_, err = scrape(s.metrics)
					return err == nil
				})
			} else {
				s.waitReady()
			}
			m := startMonitor(s.metrics, monitorOptions{Ignore: []string{"go_", "process_"}})
			l := startLoad(s.app, 4, true, "/job/a", "/job/b", "/nowhere")
			eventually(t, "some load", func() bool { return l.answered.Load() >= 300 })
			l.stop()
			require.Zero(t, l.failed.Load(), "%v", l.failures())
			n += float64(l.answered.Load())

			// A panic is counted, and stays, although that of fasthttp is the end of the worker.
			code, _, err := get("http://" + s.app + "/panic")
			if c.panics == 0 {
				assert.Error(t, err)
			} else {
				require.NoError(t, err)
			}
			assert.Equal(t, c.panics, code)
			n++

			var f families
			eventually(t, "the durations", func() bool {
				f = mustScrape(t, s.metrics)
				require.LessOrEqual(t, f.observed("http_request_duration_seconds"), n)
				return f.observed("http_request_duration_seconds") == n
			})
			f = mustScrape(t, s.metrics)
			assert.Equal(t, n, f.sum("http_request_total", "method", "GET"))
			assert.Equal(t, 1.0, f.sum("http_request_exceptions_total", "method", "GET", "status", "500"))
			assert.Equal(t, 1.0, f.observed("http_request_duration_seconds", "path", "/panic", "status", "500"))
			jobs := f.sum("http_request_total", "status", "200")
			assert.Greater(t, jobs, 150.0)
			assert.Equal(t, jobs, f.observed("http_request_duration_seconds", "path", c.route, "status", "200"))
			assert.Equal(t, f.sum("http_request_total", "status", "404"),
				f.observed("http_request_duration_seconds", "path", "unmatched"))
			// It is of the workers that live. The one that answered may have been the first that ran, and died of the panic.
			eventually(t, "a worker's exporter_info", func() bool {
				return mustScrape(t, s.metrics).sum("exporter_info") == 1
			})
			if c.name == "net/http" {
				assert.Equal(t, jobs, f.observed("job_duration_seconds", "status", "200"))
				assert.Equal(t, 1.0, f.sum("app_info", "version", "1.0.3"))
			}

			// What comes along of the process.
			eventually(t, "the process's metrics", func() bool {
				f := mustScrape(t, s.metrics)
				return f.sum("process_resident_memory_bytes") > 0 && f.sum("go_goroutines") > 0
			})
			if !c.prefork {
				require.NoError(t, syscall.Kill(s.workers()[0], syscall.SIGKILL))
				s.signal(syscall.SIGHUP)
				eventually(t, "a rolling restart", func() bool {
					r := s.status().Rollout
					return r != nil && r.State == "done"
				})
				assert.Equal(t, n, mustScrape(t, s.metrics).sum("http_request_total"))
			}
			m.stop(t)
			s.signal(os.Interrupt)
			s.wait()
		})
	}
}

// observed is how much the histograms of a name with these labels have counted.
func (f families) observed(name string, labels ...string) (n float64) {
	for _, m := range f[name].GetMetric() {
		if has(m, labels) {
			n += float64(m.GetHistogram().GetSampleCount())
		}
	}
	return n
}
