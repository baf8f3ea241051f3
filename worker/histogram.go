package worker

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/worker/internal/boundindex"
)

var (
	_ prometheus.Histogram        = (*Histogram)(nil)
	_ prometheus.ExemplarObserver = (*Histogram)(nil)
	_ prometheus.ObserverVec      = (*HistogramVec)(nil)
)

const bucketLabel = "le"

var errBucketLabel = fmt.Errorf("%q is not allowed as label name in histograms", bucketLabel)

// Histogram counts observations in buckets: a prometheus.Histogram and prometheus.ExemplarObserver. All methods are
// safe for concurrent use. The zero value is not usable, NewHistogram and HistogramVec make one.
type Histogram struct {
	series
	bounds []float64                   // of the definition
	index  boundindex.Index            // of the bounds
	table  atomic.Pointer[nativeTable] // nil: no native buckets
}

// NewHistogram returns the histogram that opts describe. It has classic buckets if opts.Buckets has bounds, native buckets
// if NativeHistogramBucketFactor is above 1, and prometheus.DefBuckets if it would have neither. It panics, and returns the
// same histogram again, as NewCounter does. It also panics for a bound that is NaN, and for other buckets under the same
// name, whatever the ConstLabels.
//
// Native buckets are client_golang's, with two differences. First, a series has its space in the store from the beginning, 26
// bytes or more for each bucket. So a NativeHistogramMaxBucketNumber of 0 means 320, and the largest is
// shmstore.MaxNativeBuckets. When a series needs more buckets, its zero bucket is widened up to
// NativeHistogramMaxZeroThreshold, and then its resolution is halved; both stay so. Second, NativeHistogramMinResetDuration has
// no effect, because one process cannot reset the sum of many.
func NewHistogram(opts prometheus.HistogramOpts) *Histogram { return process.newHistogram(opts) }

func (r *registry) newHistogram(opts prometheus.HistogramOpts) *Histogram {
	return r.defineHistogram(opts, nil).scalar().metric.(*Histogram)
}

func (r *registry) defineHistogram(opts prometheus.HistogramOpts, labelNames []string) *vec {
	if hasLabel(bucketLabel, labelNames, opts.ConstLabels) {
		panic(errBucketLabel)
	}
	bounds := bucketBounds(opts)
	binades := boundindex.New(bounds)
	return r.define(shmstore.Family{
		Name:   prometheus.BuildFQName(opts.Namespace, opts.Subsystem, opts.Name),
		Help:   opts.Help,
		Unit:   opts.Unit,
		Type:   shmstore.HistogramType,
		Bounds: bounds,
		Native: nativeOptions(opts),
	}, labelNames, opts.ConstLabels, func(d *definition) *series {
		h := &Histogram{bounds: d.family.Bounds, index: binades}
		h.metric = h
		return &h.series
	})
}

// bucketBounds returns the upper bounds of the classic buckets, without +Inf.
func bucketBounds(opts prometheus.HistogramOpts) []float64 {
	bounds := slices.Clone(opts.Buckets)
	if len(bounds) == 0 && opts.NativeHistogramBucketFactor <= 1 {
		bounds = slices.Clone(prometheus.DefBuckets)
	}
	for i, b := range bounds {
		if math.IsNaN(b) {
			panic(fmt.Errorf("histogram buckets must not be NaN: %v", bounds))
		}
		if i > 0 && bounds[i-1] >= b {
			panic(fmt.Errorf("histogram buckets must be in increasing order: %f >= %f", bounds[i-1], b))
		}
	}
	if n := len(bounds); n > 0 && math.IsInf(bounds[n-1], 1) {
		bounds = bounds[:n-1]
	}
	return bounds
}

// Observe counts v in its bucket and adds it to the sum. NaN is counted in the bucket up to +Inf, and the sum is NaN from
// then on.
func (h *Histogram) Observe(v float64) {
	if n := h.table.Load(); n != nil {
		h.observeNative(n, v)
		return
	}
	// This is series.observe written out: a call would cost a tenth of it.
	p := h.cells.Load()
	sum := word(p, shmstore.HistogramSum)
	old := atomic.LoadUint64(sum)
	var i int
	if len(h.bounds) <= manyBounds {
		i = shmstore.HistogramBuckets + boundindex.First(h.bounds, h.index.Begin(v), v)
	} else {
		i = shmstore.HistogramBuckets + sort.SearchFloat64s(h.bounds, v)
	}
	if atomic.AddUint64(word(p, i), 1) >= integerMark {
		h.addIntegerMarked(i, 1)
	}
	if old == floatMark || !atomic.CompareAndSwapUint64(sum, old, math.Float64bits(math.Float64frombits(old)+v)) {
		h.addFloat(p, shmstore.HistogramSum, v)
	}
	runtime.KeepAlive(h)
}

// bucket returns the index of v's classic bucket.
func (h *Histogram) bucket(v float64) int {
	if len(h.bounds) <= manyBounds {
		return boundindex.First(h.bounds, h.index.Begin(v), v)
	}
	return sort.SearchFloat64s(h.bounds, v)
}

// manyBounds is the number of bounds from which on a binary search is faster than bucket.
const manyBounds = 32

// ObserveWithExemplar is Observe, with an exemplar that is checked as client_golang checks it: it panics when a label
// is not valid or when they have more than 128 runes together. A nil exemplar is none. The newest exemplar of each bucket
// over all processes is shown, and of a histogram with native buckets alone the newest of each of ten magnitudes: the
// native options for exemplars have no effect. It is dropped where the store has no space for it.
func (h *Histogram) ObserveWithExemplar(v float64, exemplar prometheus.Labels) {
	h.Observe(v)
	h.exemplar(h.def.family.ExemplarOf(v), v, exemplar)
	runtime.KeepAlive(h)
}

// Write writes what this process observed. It implements prometheus.Metric.
func (h *Histogram) Write(m *dto.Metric) error {
	h.def.registry.mu.RLock()
	defer h.def.registry.mu.RUnlock()
	exemplars := make([]*dto.Exemplar, h.def.family.ExemplarSlots())
	for i := range exemplars {
		exemplars[i] = h.exemplarOf(i)
	}
	p := h.cells.Load()
	out := &dto.Histogram{
		SampleSum:        new(math.Float64frombits(atomic.LoadUint64(word(p, shmstore.HistogramSum)))),
		Bucket:           make([]*dto.Bucket, len(h.bounds)),
		CreatedTimestamp: timestamppb.New(h.created),
	}
	var count uint64
	for i, b := range h.bounds {
		count += atomic.LoadUint64(word(p, shmstore.HistogramBuckets+i))
		out.Bucket[i] = &dto.Bucket{UpperBound: new(b), CumulativeCount: new(count), Exemplar: exemplars[i]}
	}
	inf := atomic.LoadUint64(word(p, shmstore.HistogramBuckets+len(h.bounds)))
	if h.def.family.Native != nil {
		h.writeNative(out, inf)
		out.Exemplars = nativeExemplars(exemplars)
	} else {
		out.SampleCount = new(count + inf)
	}
	if last := h.lastExemplar(exemplars); last != nil {
		out.Bucket = append(out.Bucket, &dto.Bucket{
			UpperBound: new(math.Inf(1)), CumulativeCount: out.SampleCount, Exemplar: last,
		})
	}
	m.Label = h.labels()
	m.Histogram = out
	runtime.KeepAlive(h)
	return nil
}

// HistogramVec is a set of histograms with one definition and different label values: a prometheus.ObserverVec whose
// observers are all *Histogram. All methods are safe for concurrent use.
type HistogramVec struct {
	vec
}

// NewHistogramVec returns the histograms that opts describe, partitioned by labelNames. It panics as NewHistogram does.
// The same definition again gives the same histograms; the names must then come in the same order.
func NewHistogramVec(opts prometheus.HistogramOpts, labelNames []string) *HistogramVec {
	return process.newHistogramVec(opts, labelNames)
}

func (r *registry) newHistogramVec(opts prometheus.HistogramOpts, labelNames []string) *HistogramVec {
	return &HistogramVec{*r.defineHistogram(opts, labelNames)}
}

// WithLabelValues returns the histogram of these label values, in the order of the label names, and makes it when there
// is none. It panics where GetMetricWithLabelValues returns an error. Where the histogram exists it neither allocates
// nor locks.
func (v *HistogramVec) WithLabelValues(lvs ...string) prometheus.Observer {
	s := v.find(lvs)
	if s == nil {
		s = must(v.create(lvs))
	}
	return s.metric.(*Histogram)
}

// GetMetricWithLabelValues is WithLabelValues, but returns an error for a wrong number of values and for a value that is
// not valid UTF-8.
func (v *HistogramVec) GetMetricWithLabelValues(lvs ...string) (prometheus.Observer, error) {
	return handle[prometheus.Observer](v.get(lvs))
}

// With is WithLabelValues by label names. It panics where GetMetricWith returns an error.
func (v *HistogramVec) With(labels prometheus.Labels) prometheus.Observer {
	return must(v.getWith(labels)).metric.(*Histogram)
}

// GetMetricWith is With, but returns an error for labels that are not the vector's and for a value that is not valid UTF-8.
func (v *HistogramVec) GetMetricWith(labels prometheus.Labels) (prometheus.Observer, error) {
	return handle[prometheus.Observer](v.getWith(labels))
}

// CurryWith returns a *HistogramVec over the same histograms with fixed values for some labels. It returns an error for a
// label that the vector does not have, or that is fixed already.
func (v *HistogramVec) CurryWith(labels prometheus.Labels) (prometheus.ObserverVec, error) {
	c, err := v.curryWith(labels)
	if err != nil {
		return nil, err
	}
	return &HistogramVec{c}, nil
}

// MustCurryWith is CurryWith, but panics where CurryWith returns an error.
func (v *HistogramVec) MustCurryWith(labels prometheus.Labels) prometheus.ObserverVec {
	return must(v.CurryWith(labels))
}
