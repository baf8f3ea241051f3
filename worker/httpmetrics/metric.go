package httpmetrics

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/onescrape/onescrape/worker"
)

// Metric is a metric around handlers: Metrics.Counter, Gauge, Histogram and Summary make one. It may be around any
// number of them. All methods are safe for concurrent use.
type Metric struct {
	metrics  *Metrics
	kind     kind
	labels   []*label // computed ones
	create   func(values []string) instrument
	children table[instrument]

	first     sync.Once // for the initial value
	noInitial bool
}

type kind uint8

const (
	counterKind kind = iota
	gaugeKind
	observerKind
)

// instrument is the child of a metric for some label values; only the one of its kind is not nil.
type instrument struct {
	counter  *worker.Counter
	gauge    *worker.Gauge
	observer prometheus.Observer
}

// Counter returns a metric that counts the calls of the handlers that it is around. The error tells of labels that
// cannot be, or that the program has a metric of this name with others; so it does of the methods that follow. The same
// again counts in the same series.
//
// It has an initial value of 0 as soon as it is around a handler, unless one of its labels is computed or
// WithoutInitialValue was called.
func (m *Metrics) Counter(o prometheus.CounterOpts, labels ...Label) (*Metric, error) {
	return m.newMetric(counterKind, o.Name, o.ConstLabels, labels, func(constant prometheus.Labels, names []string) func(
		[]string) instrument {
		o.ConstLabels = constant
		v := worker.NewCounterVec(o, names)
		return func(values []string) instrument { return instrument{counter: v.WithLabelValues(values...)} }
	})
}

// Gauge returns a metric that shows how many calls of the handlers that it is around are in progress, in all workers
// that live.
func (m *Metrics) Gauge(o prometheus.GaugeOpts, labels ...Label) (*Metric, error) {
	return m.newMetric(gaugeKind, o.Name, o.ConstLabels, labels, func(constant prometheus.Labels, names []string) func(
		[]string) instrument {
		o.ConstLabels = constant
		v := worker.NewGaugeVec(o, names, worker.LiveSum)
		return func(values []string) instrument { return instrument{gauge: v.WithLabelValues(values...)} }
	})
}

// Histogram returns a metric that times the handlers that it is around, in seconds. Its buckets are those that
// Options.Buckets has by default, where o has neither classic nor native ones.
func (m *Metrics) Histogram(o prometheus.HistogramOpts, labels ...Label) (*Metric, error) {
	if o.Buckets == nil && !(o.NativeHistogramBucketFactor > 1) {
		o.Buckets = defaultBuckets
	}
	return m.newMetric(observerKind, o.Name, o.ConstLabels, labels, func(constant prometheus.Labels, names []string) func(
		[]string) instrument {
		o.ConstLabels = constant
		v := worker.NewHistogramVec(o, names)
		return func(values []string) instrument { return instrument{observer: v.WithLabelValues(values...)} }
	})
}

// Summary returns a metric that times the handlers that it is around, in seconds.
func (m *Metrics) Summary(o prometheus.SummaryOpts, labels ...Label) (*Metric, error) {
	return m.newMetric(observerKind, o.Name, o.ConstLabels, labels, func(constant prometheus.Labels, names []string) func(
		[]string) instrument {
		o.ConstLabels = constant
		v := worker.NewSummaryVec(o, names)
		return func(values []string) instrument { return instrument{observer: v.WithLabelValues(values...)} }
	})
}

// newMetric puts the labels together: constant and computed ones, those of all Metrics and the metric's own.
func (m *Metrics) newMetric(k kind, name string, own prometheus.Labels, labels []Label,
	define func(constant prometheus.Labels, names []string) func([]string) instrument) (*Metric, error) {
	r := &Metric{metrics: m, kind: k}
	labels = append(slices.Clone(m.options.Labels), labels...)
	err := checkNames(labels)
	constant, computed := m.compile(labels)
	for name, value := range own {
		if _, twice := constant[name]; twice {
			err = errors.Join(err, fmt.Errorf("the label %q comes twice", name))
		}
		constant[name] = value
	}
	if err == nil {
		err = catch(func() { r.create = define(constant, namesOf(computed)) })
	}
	if err != nil {
		return nil, fmt.Errorf("httpmetrics: metric %q: %w", name, err)
	}
	r.labels = computed
	return r, nil
}

// WithoutInitialValue has the metric appear only when it is first used, and returns it. Call it before Wrap and
// RegisterDefault.
func (r *Metric) WithoutInitialValue() *Metric {
	r.noInitial = true
	return r
}

// Initialize gives the metric its initial value, as Wrap and RegisterDefault do, and returns it. It is for adapters.
func (r *Metric) Initialize() *Metric {
	if len(r.labels) == 0 && !r.noInitial {
		r.first.Do(func() { r.children.add(0, nil, func() instrument { return r.create(nil) }) })
	}
	return r
}

// instrument returns the child for the labels of e as they are now.
func (r *Metric) instrument(e *Exchange) instrument {
	return lookUp(&r.children, e, 0, r.labels, r.create)
}

// Call is one run of a handler that a Metric is around; see Metric.Begin.
type Call struct {
	e     *Exchange
	index int
	life  uint // of e, when the call began
}

// Begin is when a handler with this metric is about to run, for adapters; Wrap does it for net/http. End the Call when
// the handler has returned, or panicked. It may come before the Begin of another metric ends, and any number of times
// in an exchange that was begun. Of a nil exchange nothing is measured.
func (r *Metric) Begin(e *Exchange) Call {
	if e == nil || e.omit.dropped || e.omit.excluded && !r.metrics.options.TrackExcluded {
		return Call{}
	}
	c := call{metric: r}
	if r.kind == gaugeKind {
		c.gauge = r.instrument(e).gauge
		c.gauge.Inc()
	}
	if e.counted {
		c.count(e)
	}
	c.start = time.Since(epoch)
	e.calls = append(e.calls, c)
	return Call{e, len(e.calls) - 1, e.life}
}

// End is when the handler has returned. A call that is not ended ends with the exchange; End is then of no effect, also
// when the exchange is used again: a handler that a timeout gave up is still running, and is to end no other's call.
func (c Call) End() {
	if c.e != nil && c.life == c.e.life {
		c.e.calls[c.index].end()
	}
}

// Wrap returns h with the metric around it. It works below a Wrap of the Metrics and, with nothing measured but this
// metric, without one.
func (r *Metric) Wrap(h http.Handler) http.Handler {
	r.Initialize()
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		e := find(w, r.metrics)
		if e == nil {
			x := acquire(w, req)
			x.Exchange.begin(r.metrics)
			x.omit.bare = true
			defer x.finish()
			r.serve(h, x.writer, req, &x.Exchange)
			x.returned = true
			return
		}
		r.serve(h, w, req, e)
	})
}

func (r *Metric) serve(h http.Handler, w http.ResponseWriter, req *http.Request, e *Exchange) {
	c := r.Begin(e)
	defer c.End()
	h.ServeHTTP(w, req)
}
