package worker

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"maps"

	"github.com/onescrape/onescrape/shmstore"
)

var _ prometheus.Gauge = (*Gauge)(nil)

// Gauge is a value that goes up and down: a prometheus.Gauge. All methods are safe for concurrent use. The zero value
// is not usable, NewGauge and GaugeVec make one.
type Gauge struct {
	series
	timed bool       // the mode goes by the time of the last change
	mu    sync.Mutex // of timed gauges: one value and its time at a time
}

// NewGauge returns the gauge that opts describe. mode says how the values of several workers become one; in a prefork
// server that is a decision, so it has no default: 0 and unknown modes panic. Otherwise it panics and returns the same
// gauge again as NewCounter does. Until it is set or added to, a gauge counts as 0, and takes no part in a smallest,
// largest, mean or most recent value.
func NewGauge(opts prometheus.GaugeOpts, mode GaugeMode) *Gauge { return process.newGauge(opts, mode) }

func (r *registry) newGauge(opts prometheus.GaugeOpts, mode GaugeMode) *Gauge {
	return r.defineGauge(opts, nil, mode).scalar().metric.(*Gauge)
}

func (r *registry) defineGauge(opts prometheus.GaugeOpts, labelNames []string, mode GaugeMode) *vec {
	name := prometheus.BuildFQName(opts.Namespace, opts.Subsystem, opts.Name)
	checkMode(shmstore.GaugeType, name, mode)
	timed := mode.Base() == MostRecent
	return r.define(shmstore.Family{
		Name: name,
		Help: opts.Help,
		Unit: opts.Unit,
		Type: shmstore.GaugeType,
		Mode: mode,
	}, labelNames, opts.ConstLabels, func(*definition) *series {
		g := &Gauge{timed: timed}
		g.metric = g
		return &g.series
	})
}

// Set sets the value.
func (g *Gauge) Set(v float64) {
	if g.timed {
		g.changeTimed(v, false)
		return
	}
	p, w := g.cells.Load(), shmstore.GaugeWord(v)
	for {
		old := atomic.LoadUint64(p)
		if old == gaugeMark {
			g.changeMarked(v, false)
			break
		}
		if atomic.CompareAndSwapUint64(p, old, w) {
			break
		}
	}
	runtime.KeepAlive(g)
}

// Add adds v, which may be negative.
func (g *Gauge) Add(v float64) {
	if g.timed {
		g.changeTimed(v, true)
		return
	}
	p := g.cells.Load()
	for {
		old := atomic.LoadUint64(p)
		if old == gaugeMark {
			g.changeMarked(v, true)
			break
		}
		was, _ := shmstore.GaugeValue(old)
		if atomic.CompareAndSwapUint64(p, old, shmstore.GaugeWord(was+v)) {
			break
		}
	}
	runtime.KeepAlive(g)
}

// Sub subtracts v, which may be negative.
func (g *Gauge) Sub(v float64) { g.Add(-v) }

// Inc adds 1.
func (g *Gauge) Inc() { g.Add(1) }

// Dec subtracts 1.
func (g *Gauge) Dec() { g.Add(-1) }

// SetToCurrentTime sets the value to the Unix time in seconds.
func (g *Gauge) SetToCurrentTime() { g.Set(float64(time.Now().UnixNano()) / 1e9) }

// changeMarked changes the value where it is now; a moment ago the word bore a mark.
func (g *Gauge) changeMarked(v float64, add bool) {
	g.def.registry.mu.Lock()
	defer g.def.registry.mu.Unlock()
	p := g.cells.Load()
	for {
		old, to := atomic.LoadUint64(p), v
		if add {
			was, _ := shmstore.GaugeValue(old)
			to += was
		}
		if atomic.CompareAndSwapUint64(p, old, shmstore.GaugeWord(to)) {
			return
		}
	}
}

func (g *Gauge) changeTimed(v float64, add bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	cells := words(g.cells.Load(), shmstore.TimedWords)
	if add {
		was, _, _, _ := shmstore.LoadTimed(cells)
		v += was
	}
	shmstore.StoreTimed(cells, v, shmstore.Monotonic())
	runtime.KeepAlive(g)
}

// moveTimed is move for a gauge whose writers hold a lock; false for any other.
func (g *Gauge) moveTimed(to []uint64) bool {
	if !g.timed {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if v, at, set, _ := shmstore.LoadTimed(words(g.cells.Load(), shmstore.TimedWords)); set {
		shmstore.StoreTimed(to, v, at)
	}
	g.cells.Store(&to[0])
	return true
}

// Write writes this process's value. It implements prometheus.Metric.
func (g *Gauge) Write(m *dto.Metric) error {
	m.Label = g.labels()
	m.Gauge = &dto.Gauge{Value: new(g.value())}
	return nil
}

// value returns this process's value, 0 before the first change.
func (g *Gauge) value() float64 {
	g.def.registry.mu.RLock()
	defer g.def.registry.mu.RUnlock()
	p := g.cells.Load()
	defer runtime.KeepAlive(g)
	if !g.timed {
		v, _ := shmstore.GaugeValue(atomic.LoadUint64(p))
		return v
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if v, _, set, _ := shmstore.LoadTimed(words(p, shmstore.TimedWords)); set {
		return v
	}
	return 0
}

// GaugeVec is a set of gauges with one definition and different label values. All methods are safe for concurrent use.
type GaugeVec struct {
	vec
}

// NewGaugeVec returns the gauges that opts describe, partitioned by labelNames. It panics as NewGauge does. The same
// definition again gives the same gauges; the names must then come in the same order.
func NewGaugeVec(opts prometheus.GaugeOpts, labelNames []string, mode GaugeMode) *GaugeVec {
	return process.newGaugeVec(opts, labelNames, mode)
}

func (r *registry) newGaugeVec(opts prometheus.GaugeOpts, labelNames []string, mode GaugeMode) *GaugeVec {
	return &GaugeVec{*r.defineGauge(opts, labelNames, mode)}
}

// WithLabelValues returns the gauge of these label values, in the order of the label names, and makes it when there is
// none. It panics where GetMetricWithLabelValues returns an error. Where the gauge exists it neither allocates nor
// locks.
func (v *GaugeVec) WithLabelValues(lvs ...string) *Gauge {
	s := v.find(lvs)
	if s == nil {
		s = must(v.create(lvs))
	}
	return s.metric.(*Gauge)
}

// GetMetricWithLabelValues is WithLabelValues, but returns an error for a wrong number of values and for a value that is
// not valid UTF-8.
func (v *GaugeVec) GetMetricWithLabelValues(lvs ...string) (*Gauge, error) {
	return handle[*Gauge](v.get(lvs))
}

// With is WithLabelValues by label names. It panics where GetMetricWith returns an error.
func (v *GaugeVec) With(labels prometheus.Labels) *Gauge {
	return must(v.getWith(labels)).metric.(*Gauge)
}

// GetMetricWith is With, but returns an error for labels that are not the vector's and for a value that is not valid UTF-8.
func (v *GaugeVec) GetMetricWith(labels prometheus.Labels) (*Gauge, error) {
	return handle[*Gauge](v.getWith(labels))
}

// CurryWith returns a vector over the same gauges with fixed values for some labels. It returns an error for a label that
// the vector does not have, or that is fixed already.
func (v *GaugeVec) CurryWith(labels prometheus.Labels) (*GaugeVec, error) {
	c, err := v.curryWith(labels)
	if err != nil {
		return nil, err
	}
	return &GaugeVec{c}, nil
}

// MustCurryWith is CurryWith, but panics where CurryWith returns an error.
func (v *GaugeVec) MustCurryWith(labels prometheus.Labels) *GaugeVec {
	return must(v.CurryWith(labels))
}

// Vec returns client_golang's vector over the same gauges, for functions that want that type. It collects the gauges
// that were used through it. What is deleted here is gone there; deleting there takes a gauge out of that view alone.
func (v *GaugeVec) Vec() *prometheus.GaugeVec { return &prometheus.GaugeVec{MetricVec: v.view()} }

// NewInfo returns a gauge that is always 1 and says something with its labels, such as the version that runs: labels are
// added to opts.ConstLabels and go before them. Its mode is LiveMax, so of the workers of one release there is one
// series, and it goes when the last of them does: one that stayed would be a second match for every join with it. It
// panics and returns the same gauge again as NewGauge does.
func NewInfo(opts prometheus.GaugeOpts, labels prometheus.Labels) *Gauge {
	return process.newInfo(opts, labels)
}

func (r *registry) newInfo(opts prometheus.GaugeOpts, labels prometheus.Labels) *Gauge {
	constant := make(prometheus.Labels, len(opts.ConstLabels)+len(labels))
	maps.Copy(constant, opts.ConstLabels)
	maps.Copy(constant, labels)
	opts.ConstLabels = constant
	g := r.newGauge(opts, LiveMax)
	g.Set(1)
	return g
}
