package integration

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/master"
	"github.com/onescrape/onescrape/worker"
)

// What serveExported listens on, in the environment.
const (
	exportListen  = "ONESCRAPE_TEST_LISTEN"
	exportMetrics = "ONESCRAPE_TEST_METRICS"
	exportStore   = "ONESCRAPE_TEST_STORE"
)

// serveExported is an application that was instrumented with client_golang, in the usual way, and uses a library that has
// metrics of its own. Behind the prefork master it has two lines more, one for each registry.
func serveExported() error {
	requests := promauto.NewCounterVec(prometheus.CounterOpts{Name: "app_requests_total", Help: "Requests."}, []string{"path"})
	inFlight := promauto.NewGauge(prometheus.GaugeOpts{Name: "app_in_flight", Help: "Requests being answered."})
	sizes := promauto.NewHistogram(prometheus.HistogramOpts{Name: "app_size_bytes", Help: "Sizes.", Buckets: []float64{1, 2, 4}})
	waits := promauto.NewSummary(prometheus.SummaryOpts{Name: "app_wait_seconds", Help: "Waits.",
		Objectives: map[float64]float64{0.5: 0.05, 0.99: 0.001}})
	lib := newLibrary()
	var n atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{path...}", func(w http.ResponseWriter, r *http.Request) {
		inFlight.Inc()
		defer inFlight.Dec()
		requests.WithLabelValues("/" + r.PathValue("path")).Inc()
		sizes.Observe(float64(n.Add(1) % 6))
		waits.Observe(0.25)
		lib.use()
		fmt.Fprintln(w, "ok")
	})
	return master.Run(master.Config{
		Listen: []string{os.Getenv(exportListen)}, MetricsListen: os.Getenv(exportMetrics), Store: os.Getenv(exportStore),
		Workers: 4, Linger: 100 * time.Millisecond,
	}, func(_ context.Context, w *worker.Worker) error {
		if _, err := worker.Export(prometheus.DefaultGatherer, worker.ExportOptions{}); err != nil {
			return err
		}
		if _, err := worker.Export(lib.registry, worker.ExportOptions{Interval: 50 * time.Millisecond}); err != nil {
			return err
		}
		return w.Serve(&http.Server{Handler: mux})
	})
}

// library is somebody else's: a collector that makes its metrics when it is asked.
type library struct {
	registry *prometheus.Registry

	mu    sync.Mutex
	calls uint64
}

func newLibrary() *library {
	l := &library{registry: prometheus.NewRegistry()}
	l.registry.MustRegister(l)
	return l
}

func (l *library) use() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
}

// Describe implements prometheus.Collector. It describes nothing, so the collector is an unchecked one.
func (l *library) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (l *library) Collect(ch chan<- prometheus.Metric) {
	l.mu.Lock()
	n := l.calls
	l.mu.Unlock()
	desc := func(name string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, "Of a library.", labels, nil)
	}
	ch <- prometheus.MustNewConstMetric(desc("lib_calls_total", "kind"), prometheus.CounterValue, float64(n), "all")
	ch <- prometheus.MustNewConstMetric(desc("lib_connections"), prometheus.GaugeValue, 10)
	ch <- prometheus.MustNewConstMetric(desc("lib_level"), prometheus.UntypedValue, 3)
	ch <- prometheus.MustNewConstMetric(desc("lib_info", "version"), prometheus.GaugeValue, 1, "v1.2.3")
	ch <- prometheus.MustNewConstHistogram(desc("lib_seconds"), n, float64(n), map[float64]uint64{1: n / 2, 5: n})
	ch <- prometheus.MustNewConstSummary(desc("lib_wait_seconds"), n, float64(2*n), map[float64]float64{0.9: 7})
}

func startExported(t *testing.T) *server {
	t.Helper()
	s := newServer(t)
	argv, env := asRole("exported", exportListen+"="+s.app, exportMetrics+"="+strings.TrimPrefix(s.base, "http://"),
		exportStore+"="+s.store)
	s.process = launch(t, exec.Command(argv[0]), env...)
	s.waitReady()
	eventually(t, "all workers", func() bool { return len(s.workers()) == 4 })
	return s
}

// counts are what a scrape says of how many requests there were, by each metric that counts them.
func (f families) counts() map[string]float64 {
	count := func(name string) float64 {
		m := append(f[name].GetMetric(), &dto.Metric{})[0]
		return float64(m.GetHistogram().GetSampleCount() + m.GetSummary().GetSampleCount())
	}
	return map[string]float64{
		"app_requests_total": f.sum("app_requests_total"), "app_size_bytes": count("app_size_bytes"),
		"app_wait_seconds": count("app_wait_seconds"), "lib_calls_total": f.sum("lib_calls_total", "kind", "all"),
		"lib_seconds": count("lib_seconds"), "lib_wait_seconds": count("lib_wait_seconds"),
	}
}

// waitCounted waits until a scrape has counted n requests in every metric, and returns it.
func (s *server) waitCounted(n int64) (f families) {
	s.t.Helper()
	want := float64(n)
	eventually(s.t, fmt.Sprintf("%d requests to be published", n), func() bool {
		f = mustScrape(s.t, s.metrics)
		for _, got := range f.counts() {
			require.LessOrEqual(s.t, got, want, "%v", f.counts())
			if got < want {
				return false
			}
		}
		return true
	})
	return f
}

func TestExportedApplication(t *testing.T) {
	long(t)
	started := time.Now()
	s := startExported(t)
	m := startMonitor(s.metrics, monitorOptions{})
	serve := func(least int64) (answered int64) {
		t.Helper()
		l := startLoad(s.app, 4, false, "/", "/cart")
		eventually(t, "some load", func() bool { return l.answered.Load() >= least })
		l.stop()
		require.Zero(t, l.failed.Load(), "%v", l.failures())
		return l.answered.Load()
	}
	total := serve(2000)
	f := s.waitCounted(total)

	// What the application, and the library, have of their own.
	assert.Positive(t, f.sum("app_requests_total", "path", "/cart"))
	eventually(t, "the last request to be over", func() bool {
		f = mustScrape(t, s.metrics)
		return f.sum("app_in_flight") == 0
	})
	h := f["app_size_bytes"].GetMetric()[0].GetHistogram()
	assert.Len(t, h.GetBucket(), 4)
	assert.Positive(t, h.GetSampleSum())
	waits := f["app_wait_seconds"].GetMetric()[0].GetSummary()
	assert.InDelta(t, 0.25*float64(total), waits.GetSampleSum(), 1e-6)
	require.Len(t, waits.GetQuantile(), 2)
	for _, q := range waits.GetQuantile() {
		assert.Equal(t, 0.25, q.GetValue())
	}
	lib := f["lib_seconds"].GetMetric()[0].GetHistogram()
	assert.Equal(t, float64(total), lib.GetSampleSum())
	assert.EqualValues(t, total, lib.GetBucket()[1].GetCumulativeCount())
	require.Len(t, f["lib_wait_seconds"].GetMetric()[0].GetSummary().GetQuantile(), 1)
	assert.Equal(t, 7.0, f["lib_wait_seconds"].GetMetric()[0].GetSummary().GetQuantile()[0].GetValue())
	assert.Equal(t, 40.0, f.sum("lib_connections"), "of four workers")
	assert.Equal(t, 12.0, f["lib_level"].GetMetric()[0].GetUntyped().GetValue())
	assert.Equal(t, 1.0, f.sum("lib_info", "version", "v1.2.3"))

	// What the dashboards of Go services read.
	own, err := prometheus.DefaultGatherer.Gather()
	require.NoError(t, err)
	one := families{}
	for _, mf := range own {
		one[mf.GetName()] = mf
	}
	for name, mf := range one {
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			require.Contains(t, f, name)
			if !strings.HasPrefix(name, "process_network_") {
				assert.Equal(t, mf.GetType(), f[name].GetType(), name)
			}
			assert.Len(t, f[name].GetMetric(), len(mf.GetMetric()), name)
		}
	}
	assert.Positive(t, f.sum("process_cpu_seconds_total"))
	assert.GreaterOrEqual(t, f.sum("process_resident_memory_bytes"), 4*float64(4<<20), "of four workers")
	assert.GreaterOrEqual(t, f.sum("process_open_fds"), 4*4.0)
	assert.Equal(t, one.sum("process_max_fds"), f.sum("process_max_fds"), "a limit does not add up")
	assert.InDelta(t, float64(started.Unix()), f.sum("process_start_time_seconds"), 3600, "nor does a time")
	assert.GreaterOrEqual(t, f.sum("go_goroutines"), 4*4.0)
	assert.GreaterOrEqual(t, f.sum("go_memstats_sys_bytes"), 4*float64(4<<20))
	assert.Positive(t, f.sum("go_memstats_alloc_bytes_total"))
	assert.Equal(t, 1.0, f.sum("go_info"))
	gc := f["go_gc_duration_seconds"].GetMetric()[0].GetSummary()
	assert.Len(t, gc.GetQuantile(), 5)

	// A killed worker takes its gauges along, and nothing that was published.
	victim := s.workers()[1]
	require.NoError(t, syscall.Kill(victim, syscall.SIGKILL))
	eventually(t, "a successor", func() bool {
		pids := s.workers()
		return len(pids) == 4 && !slices.Contains(pids, victim)
	})
	s.waitCounted(total)
	eventually(t, "four workers' gauges", func() bool { return mustScrape(t, s.metrics).sum("lib_connections") == 40 })
	total += serve(500)
	s.waitCounted(total)

	// One that stops publishes what it has: a rolling restart under load loses nothing.
	before := s.workers()
	l := startLoad(s.app, 4, false, "/", "/cart")
	s.signal(syscall.SIGHUP)
	eventually(t, "four other workers", func() bool {
		pids := s.workers()
		return len(pids) == 4 && !slices.ContainsFunc(pids, func(pid int) bool { return slices.Contains(before, pid) })
	})
	l.stop()
	require.Zero(t, l.failed.Load(), "%v", l.failures())
	total += l.answered.Load()
	s.waitCounted(total)

	// Killed under load, a worker loses what it has not published yet: some of the requests, and not more.
	counted := mustScrape(t, s.metrics).counts()
	l = startLoad(s.app, 4, false, "/", "/cart")
	eventually(t, "some load", func() bool { return l.answered.Load() >= 500 })
	require.NoError(t, syscall.Kill(s.workers()[0], syscall.SIGKILL))
	eventually(t, "some more", func() bool { return l.answered.Load() >= 1000 })
	l.stop()
	m.stop(t)
	after := mustScrape(t, s.metrics).counts()
	for _, name := range slices.Sorted(maps.Keys(after)) {
		assert.GreaterOrEqual(t, after[name], counted[name], name)
		assert.LessOrEqual(t, after[name], float64(total+l.sent.Load()), name)
	}
	s.signal(syscall.SIGTERM)
	assert.Zero(t, s.wait())
	assert.NotContains(t, s.stderr.String(), "level=ERROR")
}

// The program of docs/export.md is built as it is there, and serves; only the ports are others.
func TestDocsExport(t *testing.T) {
	long(t)
	programs := blocks(t, "docs/export.md", "go")
	require.Len(t, programs, 1)
	s := newServer(t)
	const there = `Listen: []string{":8080"}`
	require.Contains(t, programs[0], there)
	program := strings.Replace(programs[0], there, `Listen: []string{"`+s.app+`"}, MetricsListen: "`+
		strings.TrimPrefix(s.base, "http://")+`", Store: "`+s.store+`"`, 1)
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "server")
	require.NoError(t, os.WriteFile(source, []byte(program), 0o644))
	require.NoError(t, build(binary, source))
	s.process = launch(t, exec.Command(binary))
	s.waitReady()
	for range 10 {
		resp, err := http.Post("http://"+s.app+"/order", "", nil)
		require.NoError(t, err)
		resp.Body.Close()
	}
	eventually(t, "the orders to be published", func() bool { return mustScrape(t, s.metrics).sum("orders_total") == 10 })
	require.Contains(t, mustScrape(t, s.metrics), "process_resident_memory_bytes")
}
