package worker

import (
	"errors"
	"math"
	"runtime"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onescrape/onescrape/shmstore"
)

var (
	_ prometheus.Counter       = (*Counter)(nil)
	_ prometheus.ExemplarAdder = (*Counter)(nil)
)

var errDecrease = errors.New("counter cannot decrease in value")

// Counter is a value that only goes up: a prometheus.Counter and prometheus.ExemplarAdder. All methods are safe for
// concurrent use. The zero value is not usable, NewCounter and CounterVec make one.
type Counter struct {
	series
}

// NewCounter returns the counter that opts describe. It is registered by being made: the same opts again return the
// same counter. It panics where client_golang's NewCounter followed by MustRegister would, and when the name is that of
// a metric of another type.
func NewCounter(opts prometheus.CounterOpts) *Counter { return process.newCounter(opts) }

func (r *registry) newCounter(opts prometheus.CounterOpts) *Counter {
	return r.defineCounter(opts, nil).scalar().metric.(*Counter)
}

func (r *registry) defineCounter(opts prometheus.CounterOpts, labelNames []string) *vec {
	return r.define(shmstore.Family{
		Name: prometheus.BuildFQName(opts.Namespace, opts.Subsystem, opts.Name),
		Help: opts.Help,
		Unit: opts.Unit,
		Type: shmstore.CounterType,
	}, labelNames, opts.ConstLabels, func(*definition) *series {
		c := new(Counter)
		c.metric = c
		return &c.series
	})
}

// Inc adds 1.
func (c *Counter) Inc() { // just small enough to be inlined
	if atomic.AddUint64(c.cells.Load(), 1) >= integerMark {
		c.incMarked()
	}
	runtime.KeepAlive(c)
}

// maxInteger bounds what is added to the integer cell in one go, so that it takes a thousand additions to fill it.
const maxInteger = 1 << 53

// Add adds v; whole numbers are added exactly. It panics when v is negative. Unlike client_golang it does not add NaN and
// +Inf, after which no value would change any more: one log line says so.
func (c *Counter) Add(v float64) {
	if v < 0 {
		panic(errDecrease)
	}
	if n := int64(v); v <= maxInteger && float64(n) == v {
		if atomic.AddUint64(c.cells.Load(), uint64(n)) >= integerMark {
			c.addMarked(uint64(n))
		}
	} else {
		c.addFraction(v)
	}
	runtime.KeepAlive(c)
}

// addMarked is for a writer that got a mark back from adding n. When the cell was full instead, n goes to the other
// one.
func (c *Counter) addMarked(n uint64) {
	if !c.addIntegerMarked(shmstore.CounterInteger, n) {
		c.addFraction(float64(n))
	}
}

//go:noinline
func (c *Counter) incMarked() { c.addMarked(1) }

func (c *Counter) addFraction(v float64) {
	p := c.cells.Load()
	if sum := math.Float64frombits(atomic.LoadUint64(word(p, shmstore.CounterFloat))) + v; !(v <= math.MaxFloat64) ||
		math.IsInf(sum, 1) {
		c.def.registry.refuse(c.def, v)
		return
	}
	c.addFloat(p, shmstore.CounterFloat, v)
}

// AddWithExemplar is Add, with an exemplar that is checked as client_golang checks it: it panics when a label is not
// valid or when they have more than 128 runes together. A nil exemplar is none. The newest exemplar of all processes is
// shown. It is dropped where the store has no space for it.
func (c *Counter) AddWithExemplar(v float64, exemplar prometheus.Labels) {
	c.Add(v)
	c.exemplar(0, v, exemplar)
	runtime.KeepAlive(c)
}

// Write writes what this process counted. It implements prometheus.Metric.
func (c *Counter) Write(m *dto.Metric) error {
	c.def.registry.mu.RLock()
	defer c.def.registry.mu.RUnlock()
	// The count comes first, so that no scrape shows an exemplar of something that is not counted yet.
	exemplar := c.exemplarOf(0)
	p := c.cells.Load()
	v := math.Float64frombits(atomic.LoadUint64(word(p, shmstore.CounterFloat))) +
		float64(atomic.LoadUint64(word(p, shmstore.CounterInteger)))
	m.Label = c.labels()
	m.Counter = &dto.Counter{Value: &v, Exemplar: exemplar, CreatedTimestamp: timestamppb.New(c.created)}
	runtime.KeepAlive(c)
	return nil
}

// CounterVec is a set of counters with one definition and different label values. All methods are safe for concurrent use.
type CounterVec struct {
	vec
}

// NewCounterVec returns the counters that opts describe, partitioned by labelNames. It panics as NewCounter does. The
// same definition again gives the same counters; the names must then come in the same order.
func NewCounterVec(opts prometheus.CounterOpts, labelNames []string) *CounterVec {
	return process.newCounterVec(opts, labelNames)
}

func (r *registry) newCounterVec(opts prometheus.CounterOpts, labelNames []string) *CounterVec {
	return &CounterVec{*r.defineCounter(opts, labelNames)}
}

// WithLabelValues returns the counter of these label values, in the order of the label names, and makes it when there
// is none. It panics where GetMetricWithLabelValues returns an error. Where the counter exists it neither allocates nor
// locks.
func (v *CounterVec) WithLabelValues(lvs ...string) *Counter {
	s := v.find(lvs)
	if s == nil {
		s = must(v.create(lvs))
	}
	return s.metric.(*Counter)
}

// GetMetricWithLabelValues is WithLabelValues, but returns an error for a wrong number of values and for a value that is
// not valid UTF-8.
func (v *CounterVec) GetMetricWithLabelValues(lvs ...string) (*Counter, error) {
	return handle[*Counter](v.get(lvs))
}

// With is WithLabelValues by label names. It panics where GetMetricWith returns an error.
func (v *CounterVec) With(labels prometheus.Labels) *Counter {
	return must(v.getWith(labels)).metric.(*Counter)
}

// GetMetricWith is With, but returns an error for labels that are not the vector's and for a value that is not valid UTF-8.
func (v *CounterVec) GetMetricWith(labels prometheus.Labels) (*Counter, error) {
	return handle[*Counter](v.getWith(labels))
}

// CurryWith returns a vector over the same counters with fixed values for some labels. It returns an error for a label that
// the vector does not have, or that is fixed already.
func (v *CounterVec) CurryWith(labels prometheus.Labels) (*CounterVec, error) {
	c, err := v.curryWith(labels)
	if err != nil {
		return nil, err
	}
	return &CounterVec{c}, nil
}

// MustCurryWith is CurryWith, but panics where CurryWith returns an error.
func (v *CounterVec) MustCurryWith(labels prometheus.Labels) *CounterVec {
	return must(v.CurryWith(labels))
}

// Vec returns client_golang's vector over the same counters, for functions that want that type. It collects the
// counters that were used through it. What is deleted here is gone there; deleting there takes a counter out of that
// view alone.
func (v *CounterVec) Vec() *prometheus.CounterVec { return &prometheus.CounterVec{MetricVec: v.view()} }
