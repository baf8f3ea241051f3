package worker

import (
	"math"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
)

// metricSource is a gatherer that has the metrics of one family that a test sets.
type metricSource struct {
	name    string
	typ     dto.MetricType
	metrics []*dto.Metric
}

func (s *metricSource) Gather() ([]*dto.MetricFamily, error) {
	return []*dto.MetricFamily{{Name: &s.name, Type: &s.typ, Metric: s.metrics}}, nil
}

// floatHistogram has the cumulative counts of the buckets up to 1, 2 and infinity.
func floatHistogram(one, two, all, sum float64) *dto.Metric {
	return &dto.Metric{Histogram: &dto.Histogram{
		SampleCountFloat: &all, SampleSum: &sum, Bucket: []*dto.Bucket{
			{UpperBound: new(1.0), CumulativeCountFloat: &one},
			{UpperBound: new(2.0), CumulativeCountFloat: &two},
			{UpperBound: new(math.Inf(1)), CumulativeCountFloat: &all},
		}}}
}

func TestExportFloatHistogram(t *testing.T) {
	r := inStore(t)
	log := r.logTo()
	s := storeOf(t, r)
	from := &metricSource{"h", dto.MetricType_HISTOGRAM, []*dto.Metric{floatHistogram(2, 3, 5, 9.5)}}
	mustExport(t, r, from, ExportOptions{})
	want := "h_bucket{le=\"1\"} 2\nh_bucket{le=\"2\"} 3\nh_bucket{le=\"+Inf\"} 5\nh_sum 9.5\nh_count 5\n"
	require.Equal(t, want, sampled(t, s))
	require.Empty(t, log.String())

	for _, bad := range []float64{5.5, -1, math.NaN(), math.Inf(1), 1 << 63} {
		from.metrics = []*dto.Metric{floatHistogram(2, 3, bad, 99)}
		publishNow(r)
		require.Equal(t, want, sampled(t, s), "%v", bad)
		from.metrics = []*dto.Metric{floatHistogram(bad, 3, 7, 99)}
		publishNow(r)
		require.Equal(t, want, sampled(t, s), "%v", bad)
	}
	require.Equal(t, 1, strings.Count(log.String(), "\n"), log)
	require.Contains(t, log.String(), `msg="a metric is not exported" metric=h reason="a histogram has a count that is not a whole number from 0 to 2^63"`)
	from.metrics = []*dto.Metric{floatHistogram(2, 4, 6, 11)}
	publishNow(r)
	require.Contains(t, sampled(t, s), "h_sum 11\nh_count 6\n")
}

func TestExportNativeFloatHistogram(t *testing.T) {
	native := func(zero, all float64, positive ...float64) *dto.Metric {
		return &dto.Metric{Histogram: &dto.Histogram{
			SampleCountFloat: &all, SampleSum: new(7.0), Schema: new(int32(0)), ZeroThreshold: new(0.0), ZeroCountFloat: &zero,
			PositiveSpan:  []*dto.BucketSpan{{Offset: new(int32(1)), Length: new(uint32(len(positive)))}},
			PositiveCount: positive,
		}}
	}
	r := inStore(t)
	log := r.logTo()
	from := &metricSource{"h", dto.MetricType_HISTOGRAM, []*dto.Metric{native(1, 6, 3, 2)}}
	mustExport(t, r, from, ExportOptions{})
	gathered := func() *dto.Histogram {
		t.Helper()
		all, err := storeOf(t, r).Gather()
		require.NoError(t, err)
		for _, mf := range all {
			if mf.GetName() == "h" {
				return mf.Metric[0].Histogram
			}
		}
		return nil
	}
	h := gathered()
	require.EqualValues(t, 6, h.GetSampleCount())
	require.EqualValues(t, 1, h.GetZeroCount())
	require.Equal(t, []int64{3, -1}, h.PositiveDelta)
	from.metrics = []*dto.Metric{native(1, 7, 3.5, 2.5)}
	publishNow(r)
	require.EqualValues(t, 6, gathered().GetSampleCount())
	require.Equal(t, 1, strings.Count(log.String(), "not a whole number"), log)
}

// A series that never had a value that can be exported is absent, and there as soon as it has one.
func TestExportRefusedIsAbsent(t *testing.T) {
	counter := func(v float64) *dto.Metric { return &dto.Metric{Counter: &dto.Counter{Value: &v}} }
	bucket := func(n uint64) *dto.Metric {
		return &dto.Metric{Histogram: &dto.Histogram{SampleCount: &n, SampleSum: new(4.0)}}
	}
	count := func(n uint64) *dto.Metric {
		return &dto.Metric{Summary: &dto.Summary{SampleCount: &n, SampleSum: new(4.0)}}
	}
	for name, c := range map[string]struct {
		typ       dto.MetricType
		bad, good *dto.Metric
		want      string
	}{
		"negative counter": {dto.MetricType_COUNTER, counter(-1), counter(3), "m 3\n"},
		"infinite counter": {dto.MetricType_COUNTER, counter(math.Inf(1)), counter(3), "m 3\n"},
		"counter NaN":      {dto.MetricType_COUNTER, counter(math.NaN()), counter(3), "m 3\n"},
		"no counter":       {dto.MetricType_COUNTER, &dto.Metric{}, counter(3), "m 3\n"},
		"no gauge":         {dto.MetricType_GAUGE, &dto.Metric{}, &dto.Metric{Gauge: &dto.Gauge{Value: new(3.0)}}, "m 3\n"},
		"no untyped":       {dto.MetricType_UNTYPED, &dto.Metric{}, &dto.Metric{Untyped: &dto.Untyped{Value: new(3.0)}}, "m 3\n"},
		"float histogram":  {dto.MetricType_HISTOGRAM, floatHistogram(.5, 1, 1, 4), bucket(3), "m_bucket{le=\"1\"} 0\nm_bucket{le=\"2\"} 0\nm_bucket{le=\"+Inf\"} 3\nm_sum 4\nm_count 3\n"},
		"large histogram":  {dto.MetricType_HISTOGRAM, bucket(1 << 63), bucket(3), "m_bucket{le=\"+Inf\"} 3\nm_sum 4\nm_count 3\n"},
		"large summary":    {dto.MetricType_SUMMARY, count(1 << 63), count(3), "m_sum 4\nm_count 3\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := inStore(t)
			log := r.logTo()
			s := storeOf(t, r)
			from := &metricSource{"m", c.typ, []*dto.Metric{c.bad}}
			mustExport(t, r, from, ExportOptions{})
			publishNow(r)
			require.Empty(t, sampled(t, s))
			require.Equal(t, 1, strings.Count(log.String(), "a metric is not exported"), log)
			from.metrics = []*dto.Metric{c.good}
			publishNow(r)
			require.Equal(t, c.want, sampled(t, s))
		})
	}
	r := inStore(t)
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "c_total"}, func() float64 { return -3 }))
	mustExport(t, r, reg, ExportOptions{})
	require.Empty(t, sampled(t, storeOf(t, r)))
}
