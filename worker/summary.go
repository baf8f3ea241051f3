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

// Summary keeps the count and the sum of observations, and quantiles of the latest of them: a prometheus.Summary. All
// methods are safe for concurrent use. The zero value is not usable, NewSummary and SummaryVec make one.
type Summary struct {
	series
	window *window // nil without objectives
}

// NewSummary returns the summary that opts describe. It panics and returns the same summary again as NewCounter does.
//
// With Objectives it has quantiles. Unlike client_golang's they are those of the whole server: of all observations within
// MaxAge by the processes that live now. Each differs by at most 1 % from the exact quantile, whatever the distribution.
// The errors in Objectives, which are errors of ranks, have no effect, and neither has BufCap. The exact quantile q is the
// observation of rank ceil(q·n) of the n in ascending order. Observations of less than 2^-64 (5e-20) count as 0, from 2^64
// (1.8e19) on as infinite, of either sign; NaN is in sum and count only. Without observations the quantiles are NaN. Sum
// and count are of all observations ever made, also by dead processes.
//
// MaxAge is cut into AgeBuckets slices (at most 60, each of at least 1 ms), and the oldest is forgotten as a whole, in all
// processes at the same time: an observation counts for MaxAge less up to one slice. For this a summary takes, in the file
// of each process that has it, 16 + 32·AgeBuckets bytes, and 16 + 280·AgeBuckets for each octave (from one power of two up
// to the next, of each sign) that it has ever observed, each rounded up to 64: 15 KiB for the default of 5 AgeBuckets and
// durations between 1 ms and 1 s, at most 370 KiB; and 2 KiB of process memory. Observe reads no clock and takes no lock,
// but for the first observation of a slice and of an octave.
//
// It panics for other objectives, MaxAge or AgeBuckets under the same name, whatever the ConstLabels. Where releases
// differ, the newest release that is ready decides.
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

		Window: windowOf(opts),
	}, labelNames, opts.ConstLabels, func(d *definition) *series {
		s := new(Summary)
		if d.clock != nil {
			s.window = newWindow(d)
		}
		s.metric = s
		return &s.series
	})
}

// Observe counts v and adds it to the sum. After a NaN the sum stays NaN.
func (s *Summary) Observe(v float64) {
	s.observe(s.cells.Load(), shmstore.SummaryCount, shmstore.SummarySum, v)
	if s.window != nil {
		s.window.observe(v)
	}
	runtime.KeepAlive(s)
}

// Write writes what this process observed, and its own quantiles. It implements prometheus.Metric.
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
	if s.window != nil {
		m.Summary.Quantile = s.window.quantiles()
	}
	runtime.KeepAlive(s)
	return nil
}

// SummaryVec is a set of summaries with one definition and different label values: a prometheus.ObserverVec whose observers
// are all *Summary. All methods are safe for concurrent use.
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

// GetMetricWithLabelValues is WithLabelValues, but returns an error for a wrong number of values and for a value that is
// not valid UTF-8.
func (v *SummaryVec) GetMetricWithLabelValues(lvs ...string) (prometheus.Observer, error) {
	return handle[prometheus.Observer](v.get(lvs))
}

// With is WithLabelValues by label names. It panics where GetMetricWith returns an error.
func (v *SummaryVec) With(labels prometheus.Labels) prometheus.Observer {
	return must(v.getWith(labels)).metric.(*Summary)
}

// GetMetricWith is With, but returns an error for labels that are not the vector's and for a value that is not valid UTF-8.
func (v *SummaryVec) GetMetricWith(labels prometheus.Labels) (prometheus.Observer, error) {
	return handle[prometheus.Observer](v.getWith(labels))
}

// CurryWith returns a *SummaryVec over the same summaries with fixed values for some labels. It returns an error for a
// label that the vector does not have, or that is fixed already.
func (v *SummaryVec) CurryWith(labels prometheus.Labels) (prometheus.ObserverVec, error) {
	c, err := v.curryWith(labels)
	if err != nil {
		return nil, err
	}
	return &SummaryVec{c}, nil
}

// MustCurryWith is CurryWith, but panics where CurryWith returns an error.
func (v *SummaryVec) MustCurryWith(labels prometheus.Labels) prometheus.ObserverVec {
	return must(v.CurryWith(labels))
}
