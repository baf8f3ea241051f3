package worker

import (
	"math"

	dto "github.com/prometheus/client_model/go"
)

// maxCount is the first count that a cell of the store cannot hold.
const maxCount = 1 << 63

// usable returns a metric of the gatherer with counts that are integers, or the reason why it cannot be exported. What is
// refused before it had a value is absent from the scrape, never zero.
func (f *exportedFamily) usable(m *dto.Metric) (usable *dto.Metric, reason string) {
	const none = "a series has no value that its type can have"
	switch f.source {
	case dto.MetricType_COUNTER:
		if m.Counter == nil || !countable(m.Counter.GetValue()) {
			return nil, none
		}
	case dto.MetricType_GAUGE:
		if m.Gauge == nil {
			return nil, none
		}
	case dto.MetricType_UNTYPED:
		if m.Untyped == nil {
			return nil, none
		}
	case dto.MetricType_SUMMARY:
		if m.Summary == nil || m.Summary.GetSampleCount() >= maxCount {
			return nil, none
		}
	case dto.MetricType_HISTOGRAM:
		if m.Histogram == nil {
			return nil, none
		}
		h, ok := integerHistogram(m.Histogram)
		if !ok {
			return nil, "a histogram has a count that is not a whole number from 0 to 2^63"
		}
		if h != m.Histogram {
			return &dto.Metric{Label: m.Label, Histogram: h}, ""
		}
	}
	return m, ""
}

// integerHistogram returns a histogram whose counts are integers: h itself when it has no others. It returns false when
// a count is not a whole number, or too large for the store.
func integerHistogram(h *dto.Histogram) (whole *dto.Histogram, ok bool) {
	if !hasFloatCounts(h) {
		return h, integersFit(h)
	}
	whole = &dto.Histogram{
		SampleSum: h.SampleSum, Schema: h.Schema, ZeroThreshold: h.ZeroThreshold,
		PositiveSpan: h.PositiveSpan, NegativeSpan: h.NegativeSpan,
	}
	ok = true
	count := func(integer uint64, float *float64) *uint64 {
		n, fits := wholeCount(integer, float)
		ok = ok && fits
		return &n
	}
	whole.SampleCount = count(h.GetSampleCount(), h.SampleCountFloat)
	whole.ZeroCount = count(h.GetZeroCount(), h.ZeroCountFloat)
	for _, b := range h.Bucket {
		whole.Bucket = append(whole.Bucket, &dto.Bucket{
			UpperBound: new(b.GetUpperBound()), Exemplar: b.GetExemplar(),
			CumulativeCount: count(b.GetCumulativeCount(), floatCount(b)),
		})
	}
	var positive, negative bool
	whole.PositiveDelta, positive = wholeDeltas(h.PositiveDelta, h.PositiveCount)
	whole.NegativeDelta, negative = wholeDeltas(h.NegativeDelta, h.NegativeCount)
	return whole, ok && positive && negative
}

// hasFloatCounts reports whether h is a float histogram.
func hasFloatCounts(h *dto.Histogram) bool {
	if h.SampleCountFloat != nil || h.ZeroCountFloat != nil || len(h.PositiveCount) > 0 || len(h.NegativeCount) > 0 {
		return true
	}
	for _, b := range h.Bucket {
		if floatCount(b) != nil {
			return true
		}
	}
	return false
}

// integersFit reports whether the store can hold the counts of h.
func integersFit(h *dto.Histogram) bool {
	if h.GetSampleCount() >= maxCount {
		return false
	}
	for _, b := range h.Bucket {
		if b.GetCumulativeCount() >= maxCount {
			return false
		}
	}
	return true
}

// floatCount returns a bucket's count of a float histogram, nil without one.
func floatCount(b *dto.Bucket) *float64 {
	if b == nil {
		return nil
	}
	return b.CumulativeCountFloat
}

// wholeCount returns the count that a float, when it is set and not 0, has in place of an integer. It returns false when
// the count is not a whole number that the store can hold.
func wholeCount(integer uint64, float *float64) (n uint64, ok bool) {
	if float == nil || *float == 0 {
		return integer, integer < maxCount
	}
	if !(*float > 0 && *float < maxCount) || *float != math.Trunc(*float) {
		return 0, false
	}
	return uint64(*float), true
}

// wholeDeltas returns the deltas of native buckets, from their counts where there are some. It returns false when a count
// is not a whole number that the store can hold.
func wholeDeltas(deltas []int64, counts []float64) (whole []int64, ok bool) {
	if len(counts) == 0 {
		return deltas, true
	}
	before := int64(0)
	for _, c := range counts {
		n, ok := wholeCount(0, &c)
		if !ok {
			return nil, false
		}
		whole = append(whole, int64(n)-before)
		before = int64(n)
	}
	return whole, true
}
