package worker

import (
	"fmt"
	"math"
	"runtime"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onescrape/onescrape/shmstore"
)

var (
	_ prometheus.Summary     = (*Summary)(nil)
	_ prometheus.ObserverVec = (*SummaryVec)(nil)
)

const quantileLabel = "quantile"

var errQuantileLabel = fmt.Errorf("%q is not allowed as label name in summaries", quantileLabel)

// Summary keeps the count and the sum of observations: a prometheus.Summary. All methods are safe for concurrent use.
// The zero value is not usable, NewSummary and SummaryVec make one.
type Summary struct {
	series
}

// NewSummary returns the summary that opts describe. It panics and returns the same summary again as NewCounter does.
//
// Objectives, MaxAge, AgeBuckets and BufCap are accepted and have no effect yet: the summary has its sum and count and
// no quantiles.
func NewSummary(opts prometheus.SummaryOpts) *Summary { return process.newSummary(opts) }

func (r *registry) newSummary(opts prometheus.SummaryOpts) *Summary {
	return r.defineSummary(opts, nil).scalar().metric.(*Summary)
}

func (r *registry) defineSummary(opts prometheus.SummaryOpts, labelNames []string) *vec {
	if hasLabel(quantileLabel, labelNames, opts.ConstLabels) {
		panic(errQuantileLabel)
	}
	if opts.MaxAge < 0 {
		panic(fmt.Errorf("illegal max age MaxAge=%v", opts.MaxAge))
	}
	return r.define(shmstore.Family{
		Name: prometheus.BuildFQName(opts.Namespace, opts.Subsystem, opts.Name),
		Help: opts.Help,
		Unit: opts.Unit,
		Type: shmstore.SummaryType,
	}, labelNames, opts.ConstLabels, func(*definition) *series {
		s := new(Summary)
		s.metric = s
		return &s.series
	})
}

// Observe counts v and adds it to the sum, which a NaN makes NaN for good.
func (s *Summary) Observe(v float64) {
	s.observe(s.cells.Load(), shmstore.SummaryCount, shmstore.SummarySum, v)
	runtime.KeepAlive(s)
}

// Write writes what this process observed. It implements prometheus.Metric.
func (s *Summary) Write(m *dto.Metric) error {
	s.def.registry.mu.RLock()
	defer s.def.registry.mu.RUnlock()
	p := s.cells.Load()
	m.Label = s.labels()
	m.Summary = &dto.Summary{
		SampleCount:      new(atomic.LoadUint64(word(p, shmstore.SummaryCount))),
		SampleSum:        new(math.Float64frombits(atomic.LoadUint64(word(p, shmstore.SummarySum)))),
		CreatedTimestamp: timestamppb.New(s.created),
	}
	runtime.KeepAlive(s)
	return nil
}

// SummaryVec is the summaries of one definition that differ in their label values: a prometheus.ObserverVec, whose
// observers are all *Summary. All methods are safe for concurrent use.
type SummaryVec struct {
	vec
}

// NewSummaryVec returns the summaries that opts describe, partitioned by labelNames. It panics as NewSummary does. The
// same definition again gives the same summaries; the names must then come in the same order.
func NewSummaryVec(opts prometheus.SummaryOpts, labelNames []string) *SummaryVec {
	return process.newSummaryVec(opts, labelNames)
}

func (r *registry) newSummaryVec(opts prometheus.SummaryOpts, labelNames []string) *SummaryVec {
	return &SummaryVec{*r.defineSummary(opts, labelNames)}
}

// WithLabelValues returns the summary of these label values, in the order of the label names, and makes it when there
// is none. It panics where GetMetricWithLabelValues returns an error. Where the summary exists it neither allocates nor
// locks.
func (v *SummaryVec) WithLabelValues(lvs ...string) prometheus.Observer {
	s := v.find(lvs)
	if s == nil {
		s = must(v.create(lvs))
	}
	return s.metric.(*Summary)
}

// GetMetricWithLabelValues is WithLabelValues with an error for a wrong number of values or one that is not valid
// UTF-8.
func (v *SummaryVec) GetMetricWithLabelValues(lvs ...string) (prometheus.Observer, error) {
	return handle[prometheus.Observer](v.get(lvs))
}

// With is WithLabelValues by label names. It panics where GetMetricWith returns an error.
func (v *SummaryVec) With(labels prometheus.Labels) prometheus.Observer {
	return must(v.getWith(labels)).metric.(*Summary)
}

// GetMetricWith is With with an error for labels that are not just the vector's, or a value that is not valid UTF-8.
func (v *SummaryVec) GetMetricWith(labels prometheus.Labels) (prometheus.Observer, error) {
	return handle[prometheus.Observer](v.getWith(labels))
}

// CurryWith returns a *SummaryVec over the same summaries with some labels set for good. The error tells of a label
// that is not the vector's, or curried before.
func (v *SummaryVec) CurryWith(labels prometheus.Labels) (prometheus.ObserverVec, error) {
	c, err := v.curryWith(labels)
	if err != nil {
		return nil, err
	}
	return &SummaryVec{c}, nil
}

// MustCurryWith is CurryWith that panics where that returns an error.
func (v *SummaryVec) MustCurryWith(labels prometheus.Labels) prometheus.ObserverVec {
	return must(v.CurryWith(labels))
}
