package httpmetrics

import (
	"net/http"
	"runtime/debug"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/onescrape/onescrape/worker"
)

// defaults are the metrics that every request is measured by.
type defaults struct {
	metrics *Metrics
	labels  []*label // computed ones of the options
	grouped []*label // the group, then these

	total, exceptions         *worker.CounterVec
	duration                  prometheus.ObserverVec
	requestSize, responseSize *worker.HistogramVec // nil: none
	inFlight                  *worker.Gauge        // nil: none

	counters  table[*worker.Counter]
	observers table[observers]
}

// observers are what one group, method and status has.
type observers struct {
	duration                  prometheus.Observer
	requestSize, responseSize prometheus.Observer
}

// newDefaults makes the metrics. It panics as package worker does.
func (m *Metrics) newDefaults() *defaults {
	o := &m.options
	constant, computed := m.compile(o.Labels)
	limit := defaultLimit
	if o.GroupBy.bounded {
		limit = -1
	}
	d := &defaults{metrics: m, labels: computed}
	d.grouped = append([]*label{m.newLabel(o.GroupBy.Label, o.GroupBy.Value, limit)}, computed...)
	counted := append([]string{"method", "status"}, namesOf(computed)...)
	grouped := slices.Insert(slices.Clone(counted), 1, o.GroupBy.Label)

	m.Info(m.name("exporter_info"), "Information about the exporter of the HTTP metrics.",
		prometheus.Labels{"version": version()})
	if o.Summary {
		d.duration = worker.NewSummaryVec(prometheus.SummaryOpts{
			Name: m.name("http_request_duration_seconds"), Help: "HTTP request duration in seconds.", ConstLabels: constant,
		}, grouped)
	} else {
		d.duration = worker.NewHistogramVec(prometheus.HistogramOpts{
			Name: m.name("http_request_duration_seconds"), Help: "HTTP request duration in seconds.", ConstLabels: constant,
			Buckets: o.Buckets, NativeHistogramBucketFactor: o.NativeFactor,
		}, grouped)
	}
	d.total = worker.NewCounterVec(prometheus.CounterOpts{
		Name: m.name("http_request_total"), Help: "Total number of HTTP requests.", ConstLabels: constant,
	}, counted)
	d.exceptions = worker.NewCounterVec(prometheus.CounterOpts{
		Name: m.name("http_request_exceptions_total"), Help: "Total number of HTTP requests whose handler panicked.",
		ConstLabels: constant,
	}, counted)
	if o.Sizes {
		d.requestSize = worker.NewHistogramVec(prometheus.HistogramOpts{
			Name: m.name("http_request_size_bytes"), Help: "Size of the bodies of HTTP requests.", ConstLabels: constant,
			Buckets: sizeBuckets,
		}, grouped)
		d.responseSize = worker.NewHistogramVec(prometheus.HistogramOpts{
			Name: m.name("http_response_size_bytes"), Help: "Size of the bodies of HTTP responses.", ConstLabels: constant,
			Buckets: sizeBuckets,
		}, grouped)
	}
	if o.InFlight {
		d.inFlight = worker.NewGauge(prometheus.GaugeOpts{
			Name: m.name("http_requests_in_flight"), Help: "HTTP requests that are being answered.", ConstLabels: constant,
		}, worker.LiveSum)
	}
	return d
}

// version is that of this module in the running program.
func version() string {
	const path = "github.com/onescrape/onescrape"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == path && m.Version != "" {
			return m.Version
		}
	}
	return "(devel)"
}

// count is when the status line is written.
func (d *defaults) count(e *Exchange) {
	lookUp(&d.counters, e, outcome(e), d.labels, func(values []string) *worker.Counter {
		return d.total.WithLabelValues(append(methodAndStatus(e), values...)...)
	}).Inc()
}

// observe is when everything is over.
func (d *defaults) observe(e *Exchange) {
	if e.Panicked {
		d.countException(e)
	}
	if d.metrics.onlyRoute && e.Status/100 == 2 && e.Method != http.MethodOptions {
		switch {
		case e.Route == "":
			d.metrics.sayUnseen(e)
		case e.servesBelow():
			d.metrics.sayBelow(e)
		}
	}
	o := lookUp(&d.observers, e, outcome(e), d.grouped, func(values []string) observers {
		fixed := methodAndStatus(e)
		values = append([]string{fixed[0], values[0], fixed[1]}, values[1:]...)
		made := observers{duration: d.duration.WithLabelValues(values...)}
		if d.requestSize != nil {
			made.requestSize = d.requestSize.WithLabelValues(values...)
			made.responseSize = d.responseSize.WithLabelValues(values...)
		}
		return made
	})
	if d.metrics.options.Exemplar == nil {
		o.duration.Observe(e.Duration.Seconds())
	} else {
		d.observeWithExemplar(o.duration, e)
	}
	if o.requestSize != nil {
		if e.RequestSize >= 0 {
			o.requestSize.Observe(float64(e.RequestSize))
		}
		o.responseSize.Observe(float64(e.ResponseSize))
	}
}

// observeWithExemplar observes once, whatever becomes of the exemplar.
func (d *defaults) observeWithExemplar(o prometheus.Observer, e *Exchange) {
	observed := false
	defer func() {
		if recover() != nil {
			d.metrics.trouble.errors.WithLabelValues("exemplar").Inc()
			if !observed {
				o.Observe(e.Duration.Seconds())
			}
		}
	}()
	exemplar := d.metrics.options.Exemplar(e)
	observed = true // ObserveWithExemplar checks the exemplar after it has observed
	if h, ok := o.(prometheus.ExemplarObserver); ok {
		h.ObserveWithExemplar(e.Duration.Seconds(), exemplar)
	} else {
		o.Observe(e.Duration.Seconds())
	}
}

func (d *defaults) countException(e *Exchange) {
	values := methodAndStatus(e)
	for _, l := range d.labels {
		values = append(values, l.admit(l.of(e)))
	}
	d.exceptions.WithLabelValues(values...).Inc()
}

func methodAndStatus(e *Exchange) []string {
	return []string{methods[methodIndex(e.Method)], statusText(e.Status)}
}
