package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/worker"
)

// roleEnv says what this program is when it has started itself.
const roleEnv = "ONESCRAPE_BENCH_ROLE"

// roles are what it can be. The arguments are a directory and those of some work.
var roles = map[string]func(dir string, w work) error{
	"hold":            hold,
	"natives":         holdNatives,
	"onescrape":       scrapeStore,
	"client_golang":   func(_ string, w work) error { return scrapeRegistry(w) },
	"VictoriaMetrics": func(_ string, w work) error { return scrapeSet(w) },
	"spin":            spin,
	"churn":           churn,
}

// asRole returns the command and the environment of this program in a role.
func asRole(role, dir string, w work) (argv, env []string) {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	return append([]string{self, dir}, w.args()...), []string{roleEnv + "=" + role}
}

func beRole(role string) error {
	be := roles[role]
	if be == nil || len(os.Args) < 2 {
		return fmt.Errorf("%q %q is no role", role, os.Args[1:])
	}
	w, err := parseWork(os.Args[2:min(6, len(os.Args))]) // fasthttp adds an argument for its children
	if err != nil {
		return err
	}
	return be(os.Args[1], w)
}

// fill adds the files of all workers to a store. They live as long as this process.
func fill(dir string, w work) (cells [][]uint64, err error) {
	d, err := shmstore.OpenDir(dir, shmstore.DirOptions{Create: true})
	if err != nil {
		return nil, err
	}
	def := shmstore.Family{Name: counterName, Help: help, Type: shmstore.CounterType, Labels: labelNames}
	if w.Kind == histograms {
		def.Name, def.Type, def.Bounds = histogramName, shmstore.HistogramType, bounds
	}
	for slot := range w.Workers {
		writer, err := d.Create(shmstore.WriterOptions{Slot: slot})
		if err != nil {
			return nil, err
		}
		family, err := writer.AddFamily(def)
		if err != nil {
			return nil, err
		}
		for i := range w.Series {
			s, err := writer.AddSeries(family, labels(i))
			if err != nil {
				return nil, err
			}
			set(s.Cells, w, i)
			cells = append(cells, s.Cells)
		}
		writer.SetReady()
	}
	return cells, nil
}

// set gives the cells of series i what a worker has counted.
func set(cells []uint64, w work, i int) {
	if w.Kind != histograms {
		if v := w.count(i); v == math.Trunc(v) {
			atomic.StoreUint64(&cells[shmstore.CounterInteger], uint64(v))
		} else {
			atomic.StoreUint64(&cells[shmstore.CounterFloat], math.Float64bits(v))
		}
		return
	}
	sum := 0.0
	for _, v := range w.observed(i) {
		sum += v
		bucket := 0
		for bucket < len(bounds) && v > bounds[bucket] {
			bucket++
		}
		atomic.AddUint64(&cells[shmstore.HistogramBuckets+bucket], 1)
	}
	atomic.StoreUint64(&cells[shmstore.HistogramSum], math.Float64bits(sum))
}

// hold keeps a store's workers alive until its standard input ends.
func hold(dir string, w work) error {
	if w.Kind == natives {
		// The buckets of native histograms are made by the package that observes, which is one worker a process.
		one := w
		one.Workers = 1
		for range w.Workers {
			argv, env := asRole("natives", dir, one)
			s, err := startScraper("natives", argv, env)
			if err != nil {
				return err
			}
			defer s.stop()
		}
	} else if _, err := fill(dir, w); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// holdNatives is one worker with native histograms.
func holdNatives(dir string, w work) error {
	if err := worker.Open(dir); err != nil {
		return err
	}
	vec := worker.NewHistogramVec(nativeOpts, labelNames)
	each(w, func(i int) {
		h := vec.WithLabelValues(labels(i)...)
		for _, v := range w.observed(i) {
			h.Observe(v)
		}
	})
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// nativeOpts describe the native histograms.
var nativeOpts = prometheus.HistogramOpts{Name: histogramName, Help: help, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160}

// scrapeStore is the project's scraper: the handler that the master has, and everything that a scrape needs, but HTTP.
func scrapeStore(dir string, w work) error {
	s, err := aggregate.Open(dir, aggregate.Options{ReadOnly: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	h := s.Handler(aggregate.HandlerOptions{DisableCompression: true, Timeout: time.Minute})
	return beScraper(handled(h, w.Format), handled(h, textFormat))
}

// scrapeRegistry is one process of client_golang that has counted what all workers have.
func scrapeRegistry(w work) error {
	registry := prometheus.NewRegistry()
	if w.isHistogram() {
		opts := nativeOpts
		if w.Kind == histograms {
			opts = prometheus.HistogramOpts{Name: histogramName, Help: help, Buckets: bounds}
		}
		vec := prometheus.NewHistogramVec(opts, labelNames)
		registry.MustRegister(vec)
		each(w, func(i int) {
			h := vec.WithLabelValues(labels(i)...)
			for _, v := range w.observed(i) {
				h.Observe(v)
			}
		})
	} else {
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: counterName, Help: help}, labelNames)
		registry.MustRegister(vec)
		each(w, func(i int) { vec.WithLabelValues(labels(i)...).Add(w.count(i)) })
	}
	h := promhttp.HandlerFor(registry, promhttp.HandlerOpts{DisableCompression: true, EnableOpenMetrics: true})
	return beScraper(handled(h, w.Format), handled(h, textFormat))
}

// scrapeSet is one process of VictoriaMetrics/metrics that has counted what all workers have.
func scrapeSet(w work) error {
	set := metrics.NewSet()
	each(w, func(i int) {
		l := labels(i)
		name := fmt.Sprintf("{code=%q,route=%q}", l[0], l[1])
		switch w.Kind {
		case histograms:
			h := set.GetOrCreatePrometheusHistogramExt(histogramName+name, bounds)
			for _, v := range w.observed(i) {
				h.Update(v)
			}
		case fractions:
			set.GetOrCreateFloatCounter(counterName + name).Add(w.count(i))
		default:
			set.GetOrCreateCounter(counterName + name).AddInt64(int64(w.count(i)))
		}
	})
	// As its documentation has it: the text of a scrape is put together in memory.
	scrape := func(to io.Writer) error {
		var b bytes.Buffer
		set.WritePrometheus(&b)
		_, err := to.Write(b.Bytes())
		return err
	}
	return beScraper(scrape, scrape)
}

// each calls fn for every series once for each worker.
func each(w work, fn func(i int)) {
	for range w.Workers {
		for i := range w.Series {
			fn(i)
		}
	}
}

// handled scrapes by way of a handler, in a format and without a network.
func handled(h http.Handler, format string) func(io.Writer) error {
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/metrics"}, Header: http.Header{"Accept": {accepts[format]}}}
	return func(to io.Writer) error {
		w := &response{Writer: to, header: http.Header{}, code: http.StatusOK}
		h.ServeHTTP(w, r)
		if w.code != http.StatusOK {
			return fmt.Errorf("the answer is %d", w.code)
		}
		return nil
	}
}

// response is an http.ResponseWriter of which only the body goes on.
type response struct {
	io.Writer
	header http.Header
	code   int
}

func (r *response) Header() http.Header  { return r.header }
func (r *response) WriteHeader(code int) { r.code = code }
