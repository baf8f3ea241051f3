package main

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/onescrape/onescrape/worker"
)

// demo is the application of onescrape demo: a few routes that behave well and badly, and the metrics of them. It counts
// a request before a byte of its answer is written, so whoever has an answer finds it in the next scrape.
type demo struct {
	requests *worker.CounterVec
	duration *worker.HistogramVec
	inFlight *worker.Gauge
	last     *worker.Gauge
	log      *slog.Logger
}

// newDemo makes the metrics, here and not with the package so that only demo's workers have them.
func newDemo(log *slog.Logger) *demo {
	return &demo{
		requests: worker.NewCounterVec(prometheus.CounterOpts{
			Name: "demo_requests_total",
			Help: "Requests by route and status code, counted before the answer is written.",
		}, []string{"route", "code"}),
		duration: worker.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "demo_request_duration_seconds",
			Help:    "Time from a request to the end of its answer.",
			Buckets: prometheus.DefBuckets,
		}, []string{"route"}),
		inFlight: worker.NewGauge(prometheus.GaugeOpts{
			Name: "demo_in_flight",
			Help: "Requests that are being answered by the workers that live.",
		}, worker.LiveSum),
		last: worker.NewGauge(prometheus.GaugeOpts{
			Name: "demo_last_request_timestamp_seconds",
			Help: "When the last request came in, to whichever worker.",
		}, worker.MostRecent),
		log: log,
	}
}

// routes is the application as the worker of that slot serves it.
func (d *demo) routes(slot int) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/{$}", d.route("/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "hello from slot %d, pid %d\n", slot, os.Getpid())
	}))
	mux.Handle("/work", d.route("/work", work))
	mux.Handle("/status/{code}", d.route("/status", status))
	mux.Handle("/panic", d.route("/panic", func(http.ResponseWriter, *http.Request) {
		panic("somebody asked for /panic")
	}))
	mux.Handle("/crash", d.route("/crash", d.crash))
	mux.Handle("/", d.route("other", http.NotFound))
	return mux
}

// maxWork bounds what ?ms= asks for.
const maxWork = time.Minute

// work sleeps about as long as ?ms= says, by default for 5 to 100 ms.
func work(w http.ResponseWriter, r *http.Request) {
	d := time.Duration(5+rand.IntN(96)) * time.Millisecond
	if ms := r.URL.Query().Get("ms"); ms != "" {
		n, err := strconv.ParseFloat(ms, 64)
		if err != nil || !(n >= 0 && n <= float64(maxWork.Milliseconds())) {
			http.Error(w, fmt.Sprintf("ms=%q: give milliseconds from 0 to %d", ms, maxWork.Milliseconds()),
				http.StatusBadRequest)
			return
		}
		d = time.Duration(n * (0.9 + 0.2*rand.Float64()) * float64(time.Millisecond))
	}
	select {
	case <-time.After(d):
		fmt.Fprintf(w, "worked for %v\n", d.Round(time.Microsecond))
	case <-r.Context().Done(): // the client has gone, so nobody reads what is said here
	}
}

// status answers with the code that the path names.
func status(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.PathValue("code"))
	if err != nil || code < 200 || code > 599 {
		http.Error(w, "give a final status code, 200 to 599", http.StatusBadRequest)
		return
	}
	w.WriteHeader(code)
	if code != http.StatusNoContent && code != http.StatusNotModified {
		fmt.Fprintln(w, code, http.StatusText(code))
	}
}

// crash kills the process as the kernel would when memory runs out. The request is counted as 500 before, which shows
// that what was counted stays.
func (d *demo) crash(http.ResponseWriter, *http.Request) {
	d.requests.WithLabelValues("/crash", "500").Inc()
	d.log.Warn("somebody asked for /crash", "pid", os.Getpid())
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// route measures what a handler does. A panic is answered, and counted, as 500 when nothing was written before.
func (d *demo) route(route string, h http.HandlerFunc) http.Handler {
	duration := d.duration.WithLabelValues(route)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		d.inFlight.Inc()
		d.last.SetToCurrentTime()
		counted := &counted{ResponseWriter: w, demo: d, route: route}
		defer func() {
			p := recover()
			if p != nil {
				d.log.Error("handler panicked", "route", route, "panic", p, "stack", string(debug.Stack()))
			}
			began := counted.done
			if p != nil && !began {
				http.Error(counted, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
			}
			counted.count(http.StatusOK) // a handler that wrote nothing is answered with 200 by net/http
			duration.Observe(time.Since(start).Seconds())
			d.inFlight.Dec()
			if p != nil && began {
				panic(http.ErrAbortHandler) // half an answer must not look like a whole one
			}
		}()
		h(counted, r)
	})
}

// counted counts a request when its status is known, which is before anything is written.
type counted struct {
	http.ResponseWriter
	demo  *demo
	route string
	done  bool
}

func (c *counted) count(code int) {
	if !c.done {
		c.done = true
		c.demo.requests.WithLabelValues(c.route, strconv.Itoa(code)).Inc()
	}
}

func (c *counted) WriteHeader(code int) {
	c.count(code)
	c.ResponseWriter.WriteHeader(code)
}

func (c *counted) Write(b []byte) (int, error) {
	c.count(http.StatusOK)
	return c.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }
