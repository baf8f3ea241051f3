package aggregate

import (
	"math"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onescrape/onescrape/aggregate/internal/accumulator"
	"github.com/onescrape/onescrape/shmstore"
)

var outputTypes = map[shmstore.Type]dto.MetricType{
	shmstore.CounterType:   dto.MetricType_COUNTER,
	shmstore.GaugeType:     dto.MetricType_GAUGE,
	shmstore.HistogramType: dto.MetricType_HISTOGRAM,
	shmstore.SummaryType:   dto.MetricType_SUMMARY,
	shmstore.UntypedType:   dto.MetricType_UNTYPED,
}

// output returns the family as client_golang's registry would. It only reads, so any number of goroutines may; labels
// and bounds are shared with other scrapes and never written to again.
func (f *family) output() *dto.MetricFamily {
	mf := &dto.MetricFamily{
		Name: new(f.name),
		Help: new(f.rule.Help),
		Type: outputTypes[f.rule.Type].Enum(),
	}
	if f.rule.Unit != "" {
		mf.Unit = new(f.rule.Unit)
	}
	rows := make([]int32, 0, len(f.order))
	for _, n := range f.order {
		if f.visible(n) {
			rows = append(rows, n)
		}
	}
	// One allocation for all of a kind.
	metrics := make([]dto.Metric, len(rows))
	mf.Metric = make([]*dto.Metric, len(rows))
	for i, n := range rows {
		metrics[i].Label = f.rows[n].labels
		mf.Metric[i] = &metrics[i]
	}
	switch f.rule.Type {
	case shmstore.CounterType:
		f.outputCounters(rows, metrics)
	case shmstore.HistogramType:
		f.outputHistograms(rows, metrics)
	case shmstore.SummaryType:
		f.outputSummaries(rows, metrics)
	default:
		f.outputGauges(rows, metrics)
	}
	return mf
}

func (f *family) outputCounters(rows []int32, metrics []dto.Metric) {
	counters, values := make([]dto.Counter, len(rows)), make([]float64, len(rows))
	stamps := make([]timestamppb.Timestamp, len(rows))
	for i, n := range rows {
		values[i] = f.values[n]
		counters[i].Value = &values[i]
		counters[i].CreatedTimestamp = f.stamp(&stamps[i], n)
		if x := f.exemplarsOf(n); x != nil {
			counters[i].Exemplar = x[0].out
		}
		metrics[i].Counter = &counters[i]
	}
}

func (f *family) outputGauges(rows []int32, metrics []dto.Metric) {
	values := make([]float64, len(rows))
	for i, n := range rows {
		values[i] = f.values[n]
	}
	if f.rule.Type == shmstore.UntypedType {
		untyped := make([]dto.Untyped, len(rows))
		for i := range rows {
			untyped[i].Value = &values[i]
			metrics[i].Untyped = &untyped[i]
		}
		return
	}
	gauges := make([]dto.Gauge, len(rows))
	for i := range rows {
		gauges[i].Value = &values[i]
		metrics[i].Gauge = &gauges[i]
	}
}

func (f *family) outputSummaries(rows []int32, metrics []dto.Metric) {
	summaries := make([]dto.Summary, len(rows))
	sums, counts := make([]float64, len(rows)), make([]uint64, len(rows))
	stamps := make([]timestamppb.Timestamp, len(rows))
	for i, n := range rows {
		sums[i], counts[i] = f.sums[n].Value(), f.buckets[n]
		summaries[i].SampleSum, summaries[i].SampleCount = &sums[i], &counts[i]
		summaries[i].Quantile = f.outputLines(n)
		summaries[i].CreatedTimestamp = f.stamp(&stamps[i], n)
		metrics[i].Summary = &summaries[i]
	}
	f.outputQuantiles(rows, summaries)
}

// outputHistograms leaves out the bucket up to +Inf, as client_golang does: it is the count. Only an exemplar brings it
// in.
func (f *family) outputHistograms(rows []int32, metrics []dto.Metric) {
	bounds := f.rule.Bounds
	width := len(bounds) + 1
	histograms, sums := make([]dto.Histogram, len(rows)), make([]float64, len(rows))
	stamps := make([]timestamppb.Timestamp, len(rows))
	counts := make([]uint64, len(rows)*width)
	buckets, pointers := make([]dto.Bucket, len(rows)*len(bounds)), make([]*dto.Bucket, len(rows)*len(bounds))
	for i, n := range rows {
		var total uint64
		for j, count := range f.buckets[int(n)*width:][:width] {
			total = accumulator.AddSaturated(total, count)
			counts[i*width+j] = total
		}
		own := buckets[i*len(bounds):][:len(bounds)]
		to := pointers[i*len(bounds):][:len(bounds):len(bounds)]
		for j := range own {
			own[j].UpperBound, own[j].CumulativeCount = &bounds[j], &counts[i*width+j]
			to[j] = &own[j]
		}
		sums[i] = f.sums[n].Value()
		h := &histograms[i]
		h.Bucket, h.SampleSum, h.SampleCount = to, &sums[i], &counts[i*width+width-1]
		h.CreatedTimestamp = f.stamp(&stamps[i], n)
		if x := f.exemplarsOf(n); x != nil {
			for j := range own {
				own[j].Exemplar = x[j].out
			}
			if last := f.lastExemplar(x); last != nil {
				h.Bucket = append(h.Bucket, &dto.Bucket{
					UpperBound: new(math.Inf(1)), CumulativeCount: h.SampleCount, Exemplar: last,
				})
			}
		}
		if f.rule.Native != nil {
			f.natives[n].Write(h)
			h.Exemplars = f.nativeExemplars(n)
		}
		metrics[i].Histogram = h
	}
}
