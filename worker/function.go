package worker

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/onescrape/onescrape/shmstore"
)

// valueFunction is a metric whose value is what a function returns.
type valueFunction interface {
	prometheus.Metric
	prometheus.Collector
	read()          // calls the function and keeps what it returned
	hasValue() bool // reports whether the function has returned a value; safe for concurrent use
	write(*dto.Metric)
}

var (
	_ prometheus.GaugeFunc   = (*gaugeFunc)(nil)
	_ prometheus.UntypedFunc = (*gaugeFunc)(nil)
	_ prometheus.CounterFunc = (*counterFunc)(nil)
)

// NewGaugeFunc returns a gauge whose value is what f returns. mode says how the values of several workers become one, as
// for NewGauge.
//
// With a store, a goroutine of this package calls f once a second, when the worker says Ready and before it ends, and
// publishes what it returns: no scrape waits for f, and those that other processes answer cannot call it. Without a
// store, and by Write and Collect, f is called when the metric is read. There is one call at a time. The metric is absent
// from a scrape until f has returned for the first time, which with a store can take a second. When f panics, one log line
// says so and the last value stays.
//
// It panics as NewGauge does. The same definition again panics with a prometheus.AlreadyRegisteredError, because a
// metric cannot have two functions.
func NewGaugeFunc(opts prometheus.GaugeOpts, mode GaugeMode, f func() float64) prometheus.GaugeFunc {
	return process.newGaugeFunc(opts, mode, f)
}

func (r *registry) newGaugeFunc(opts prometheus.GaugeOpts, mode GaugeMode, f func() float64) *gaugeFunc {
	return r.newValueFunc(shmstore.GaugeType, prometheus.Opts(opts), mode, f)
}

// NewUntypedFunc is NewGaugeFunc for a value that may be a gauge or a counter.
func NewUntypedFunc(opts prometheus.UntypedOpts, mode GaugeMode, f func() float64) prometheus.UntypedFunc {
	return process.newUntypedFunc(opts, mode, f)
}

func (r *registry) newUntypedFunc(opts prometheus.UntypedOpts, mode GaugeMode, f func() float64) *gaugeFunc {
	return r.newValueFunc(shmstore.UntypedType, prometheus.Opts(opts), mode, f)
}

func (r *registry) newValueFunc(
	typ shmstore.Type, opts prometheus.Opts, mode GaugeMode, f func() float64,
) *gaugeFunc {
	name := prometheus.BuildFQName(opts.Namespace, opts.Subsystem, opts.Name)
	checkMode(typ, name, mode)
	g := &gaugeFunc{call: f}
	g.timed = mode.Base() == MostRecent
	v := r.define(shmstore.Family{Name: name, Help: opts.Help, Unit: opts.Unit, Type: typ, Mode: mode}, nil,
		opts.ConstLabels, func(*definition) *series {
			g.metric = g
			return &g.series
		})
	r.addFunction(v, g)
	return g
}

// NewCounterFunc returns a counter whose value is what f returns, under the rules of NewGaugeFunc. f should not go back:
// where it does the counter stands still, and rises again when f does. What is negative, infinite or NaN is no value. The
// created timestamp of the counter is the time of this call; client_golang's CounterFunc has none.
func NewCounterFunc(opts prometheus.CounterOpts, f func() float64) prometheus.CounterFunc {
	return process.newCounterFunc(opts, f)
}

func (r *registry) newCounterFunc(opts prometheus.CounterOpts, f func() float64) *counterFunc {
	c := &counterFunc{call: f}
	v := r.define(shmstore.Family{
		Name: prometheus.BuildFQName(opts.Namespace, opts.Subsystem, opts.Name),
		Help: opts.Help,
		Unit: opts.Unit,
		Type: shmstore.CounterType,
	}, nil, opts.ConstLabels, func(*definition) *series {
		c.metric = c
		return &c.series
	})
	r.addFunction(v, c)
	return c
}

// addFunction makes f the one metric of v, unless that has one already, and has it published.
func (r *registry) addFunction(v *vec, f valueFunction) {
	if have := v.scalar().metric; have != prometheus.Metric(f) {
		panic(prometheus.AlreadyRegisteredError{ExistingCollector: have.(prometheus.Collector), NewCollector: f})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.publishing.functions = append(r.publishing.functions, f)
	if len(r.publishing.functions) == 1 {
		r.addPublisher(publishEvery, r.publishFunctions)
	}
}

// publishFunctions calls every function, when there is a store for what they return.
func (r *registry) publishFunctions() {
	r.mu.RLock()
	all := r.publishing.functions
	if r.binding.writer == nil {
		all = nil
	}
	r.mu.RUnlock()
	for _, f := range all {
		f.read()
	}
}

// publishFunction makes the series of a function part of the store once it has a value.
func (r *registry) publishFunction(f valueFunction, s *series) {
	if !f.hasValue() {
		return
	}
	r.mu.RLock()
	announced := r.binding.writer == nil || s.stored != nil || s.overflow
	r.mu.RUnlock()
	if !announced {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.announce(s)
	}
}

// collected is the metric of a function that was called by Collect, so Write does not call it again.
type collected struct{ valueFunction }

// Write writes what the function returned. It implements prometheus.Metric.
func (c collected) Write(m *dto.Metric) error {
	c.write(m)
	return nil
}

// collect calls a function and sends its metric, unless the function has never returned a value.
func collect(f valueFunction, ch chan<- prometheus.Metric) {
	f.read()
	if f.hasValue() {
		ch <- collected{f}
	}
}

// isFunction reports whether the definition is that of a function.
func (d *definition) isFunction() bool {
	for s := range d.table.Load().all() {
		_, ok := s.metric.(valueFunction)
		return ok
	}
	return false
}

// call returns what f returns; false when it panicked, which is logged once.
func (r *registry) call(d *definition, f func() float64) (v float64, ok bool) {
	defer func() {
		if p := recover(); p != nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.once("panic "+d.desc.String(), func() {
				r.log.Error("the function of a metric panicked, its last value stays", "metric", d.family.Name, "panic", p)
			})
		}
	}()
	return f(), true
}

// gaugeFunc is a gauge, or an untyped metric, that nobody but its function sets.
type gaugeFunc struct {
	Gauge
	call func() float64

	reading sync.Mutex // one call at a time; protects last
	last    float64
	known   atomic.Bool // last was returned
}

func (g *gaugeFunc) hasValue() bool { return g.known.Load() }

// Collect calls the function and sends the metric. It implements prometheus.Collector.
func (g *gaugeFunc) Collect(ch chan<- prometheus.Metric) { collect(g, ch) }

func (g *gaugeFunc) read() {
	g.reading.Lock()
	defer g.reading.Unlock()
	v, ok := g.def.registry.call(g.def, g.call)
	// The time of a timed gauge is when its value changed, not when it was read.
	if ok && !(g.timed && g.known.Load() && math.Float64bits(v) == math.Float64bits(g.last)) {
		g.Set(v)
		g.last = v
		g.known.Store(true)
	}
	g.def.registry.publishFunction(g, &g.series)
}

// Write calls the function and writes what it returned. It implements prometheus.Metric.
func (g *gaugeFunc) Write(m *dto.Metric) error {
	g.read()
	g.write(m)
	return nil
}

func (g *gaugeFunc) write(m *dto.Metric) {
	m.Label = g.labels()
	if g.def.family.Type == shmstore.UntypedType {
		m.Untyped = &dto.Untyped{Value: new(g.value())}
	} else {
		m.Gauge = &dto.Gauge{Value: new(g.value())}
	}
}

// counterFunc is a counter that nobody but its function raises.
type counterFunc struct {
	Counter
	call func() float64

	reading  sync.Mutex // one call at a time; protects rise
	adjusted resetAdjusted
	known    atomic.Bool // the function has returned what a counter can be
}

func (c *counterFunc) hasValue() bool { return c.known.Load() }

// Collect calls the function and sends the metric. It implements prometheus.Collector.
func (c *counterFunc) Collect(ch chan<- prometheus.Metric) { collect(c, ch) }

func (c *counterFunc) read() {
	c.reading.Lock()
	defer c.reading.Unlock()
	v, ok := c.def.registry.call(c.def, c.call)
	switch {
	case !ok:
	case !countable(v):
		c.def.registry.refuse(c.def, v)
	default:
		c.adjusted.follow(v)
		c.store()
		c.known.Store(true)
	}
	c.def.registry.publishFunction(c, &c.series)
}

// store writes the counter's value. The registry's lock keeps the cells from moving.
func (c *counterFunc) store() {
	c.def.registry.mu.RLock()
	defer c.def.registry.mu.RUnlock()
	storeCounter(words(c.cells.Load(), shmstore.CounterWords), c.adjusted.total)
}

// Write calls the function and writes the counter. It implements prometheus.Metric.
func (c *counterFunc) Write(m *dto.Metric) error {
	c.read()
	c.write(m)
	return nil
}

func (c *counterFunc) write(m *dto.Metric) {
	// It never returns an error.
	_ = c.Counter.Write(m)
}
