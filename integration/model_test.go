package integration

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/worker"
)

// The model: what each of modelWorkers workers writes into modelSeries series of each type is a function of its slot
// alone, so the test computes by itself what the scrape must be.
const (
	modelWorkers = 4
	modelSeries  = 1000
)

var modelBounds = []float64{-1, 0, 0.5, 2.5, 10}

var modelModes = []worker.GaugeMode{
	worker.All, worker.LiveAll, worker.Sum, worker.LiveSum, worker.Min, worker.LiveMin, worker.Max, worker.LiveMax,
	worker.Avg, worker.LiveAvg, worker.MostRecent, worker.LiveMostRecent,
}

// modelOps calls f with each value that a worker adds, sets or observes, in its order, and the number of the series.
func modelOps(slot int, typ string, f func(series int, value float64)) {
	rng := rand.New(rand.NewPCG(uint64(slot), uint64(len(typ))))
	for series := range modelSeries {
		for n := rng.IntN(8); n >= 0; n-- {
			value := float64(rng.IntN(1000))
			if rng.IntN(2) == 0 {
				value = rng.ExpFloat64() * math.Pow(10, float64(rng.IntN(12)-6)) // fractions, large and small
			}
			if typ != "counter" && rng.IntN(3) == 0 {
				value = -value
			}
			if typ != "counter" && series%100 == 7 && slot == 1 && n == 0 {
				value = math.NaN()
			}
			f(series, value)
		}
	}
}

// mostRecentSlot is the only worker that sets a series of the modes that take the newest value: which of several was the
// last is nothing that a test can know.
func mostRecentSlot(series int) int { return series % modelWorkers }

func writeModel(w *worker.Worker) error {
	name := func(i int) string { return strconv.Itoa(i) }
	counters := worker.NewCounterVec(prometheus.CounterOpts{Name: "model_counter_total", Help: "c"}, []string{"i"})
	modelOps(w.Slot(), "counter", func(i int, v float64) { counters.WithLabelValues(name(i)).Add(v) })
	histograms := worker.NewHistogramVec(prometheus.HistogramOpts{
		Name: "model_histogram", Help: "h", Buckets: modelBounds,
	}, []string{"i"})
	modelOps(w.Slot(), "histogram", func(i int, v float64) { histograms.WithLabelValues(name(i)).Observe(v) })
	summaries := worker.NewSummaryVec(prometheus.SummaryOpts{Name: "model_summary", Help: "s"}, []string{"i"})
	modelOps(w.Slot(), "summary", func(i int, v float64) { summaries.WithLabelValues(name(i)).Observe(v) })
	for _, mode := range modelModes {
		gauges := worker.NewGaugeVec(prometheus.GaugeOpts{Name: modelGauge(mode), Help: "g"}, []string{"i"}, mode)
		modelOps(w.Slot(), "gauge", func(i int, v float64) {
			if mode.Base() != worker.MostRecent || mostRecentSlot(i) == w.Slot() {
				gauges.WithLabelValues(name(i)).Set(v)
			}
		})
	}
	return nil
}

func modelGauge(mode worker.GaugeMode) string { return "model_gauge_" + mode.String() }

// exactSum is the sum rounded once. NaN in it is NaN.
func exactSum(values ...float64) float64 {
	total := new(big.Float).SetPrec(3000)
	for _, v := range values {
		if math.IsNaN(v) {
			return v
		}
		total.Add(total, new(big.Float).SetFloat64(v))
	}
	f, _ := total.Float64()
	return f
}

// modelCounter is what a counter of one process holds: whole numbers apart from fractions, which are added up in the
// order in which they came.
type modelCounter struct{ whole, fractions float64 }

func (c *modelCounter) add(v float64) {
	if v == math.Trunc(v) {
		c.whole += v
	} else {
		c.fractions += v
	}
}

func TestEverythingIsKept(t *testing.T) {
	argv, env := asRole("model")
	s := startRun(t, env, modelWorkers, []string{"--ready-settle", "0s"}, argv...)
	f := mustScrape(t, s.metrics)
	compareModel(t, f, true)
}

// compareModel holds a scrape against the model: of all workers while they live, or after they died.
func compareModel(t *testing.T, f families, live bool) {
	t.Helper()
	byIndex := func(name string) [modelSeries][]*dto.Metric {
		var found [modelSeries][]*dto.Metric
		for _, m := range f[name].GetMetric() {
			i := slices.IndexFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == "i" })
			require.GreaterOrEqual(t, i, 0)
			n, err := strconv.Atoi(m.GetLabel()[i].GetValue())
			require.NoError(t, err)
			found[n] = append(found[n], m)
		}
		return found
	}
	// The values of each series, by worker.
	values := func(typ string) (all [modelSeries][modelWorkers][]float64) {
		for slot := range modelWorkers {
			modelOps(slot, typ, func(i int, v float64) { all[i][slot] = append(all[i][slot], v) })
		}
		return all
	}
	inOrder := func(values []float64) (sum float64) {
		for _, v := range values {
			sum += v
		}
		return sum
	}

	counters, want := byIndex("model_counter_total"), values("counter")
	for i, metrics := range counters {
		require.Len(t, metrics, 1, "counter %d", i)
		var parts []float64
		for _, ops := range want[i] {
			var c modelCounter
			for _, v := range ops {
				c.add(v)
			}
			parts = append(parts, c.whole, c.fractions)
		}
		same(t, exactSum(parts...), metrics[0].GetCounter().GetValue(), "counter %d", i)
	}

	histograms, want := byIndex("model_histogram"), values("histogram")
	for i, metrics := range histograms {
		require.Len(t, metrics, 1, "histogram %d", i)
		h := metrics[0].GetHistogram()
		var sums []float64
		count, buckets := uint64(0), make([]uint64, len(modelBounds))
		for _, ops := range want[i] {
			sums = append(sums, inOrder(ops))
			for _, v := range ops {
				count++
				for b, bound := range modelBounds {
					if v <= bound {
						buckets[b]++
					}
				}
			}
		}
		same(t, exactSum(sums...), h.GetSampleSum(), "sum of histogram %d", i)
		require.Equal(t, count, h.GetSampleCount(), "count of histogram %d", i)
		require.Len(t, h.GetBucket(), len(modelBounds)+1)
		for b, bound := range modelBounds {
			require.Equal(t, bound, h.GetBucket()[b].GetUpperBound())
			require.Equal(t, buckets[b], h.GetBucket()[b].GetCumulativeCount(), "bucket %v of histogram %d", bound, i)
		}
	}

	summaries, want := byIndex("model_summary"), values("summary")
	for i, metrics := range summaries {
		require.Len(t, metrics, 1, "summary %d", i)
		var sums []float64
		count := 0
		for _, ops := range want[i] {
			sums = append(sums, inOrder(ops))
			count += len(ops)
		}
		same(t, exactSum(sums...), metrics[0].GetSummary().GetSampleSum(), "sum of summary %d", i)
		require.EqualValues(t, count, metrics[0].GetSummary().GetSampleCount(), "count of summary %d", i)
	}

	want = values("gauge")
	for _, mode := range modelModes {
		gauges := byIndex(modelGauge(mode))
		for i, metrics := range gauges {
			name := fmt.Sprintf("%s %d", mode, i)
			if mode.Live() && !live {
				require.Empty(t, metrics, name)
				continue
			}
			compareModelGauge(t, mode, i, want[i], metrics)
		}
	}
}

func compareModelGauge(t *testing.T, mode worker.GaugeMode, i int, ops [modelWorkers][]float64, metrics []*dto.Metric) {
	t.Helper()
	name := fmt.Sprintf("%s %d", mode, i)
	var last []float64 // what each worker has set last
	for _, values := range ops {
		last = append(last, values[len(values)-1])
	}
	if mode.Base() == worker.All {
		require.Len(t, metrics, modelWorkers, name)
		for _, m := range metrics {
			slot := slices.IndexFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == "worker" })
			require.GreaterOrEqual(t, slot, 0, name)
			n, err := strconv.Atoi(m.GetLabel()[slot].GetValue())
			require.NoError(t, err)
			same(t, last[n], m.GetGauge().GetValue(), "%s", name)
		}
		return
	}
	require.Len(t, metrics, 1, name)
	got := metrics[0].GetGauge().GetValue()
	numbers := slices.DeleteFunc(slices.Clone(last), math.IsNaN)
	switch mode.Base() {
	case worker.Sum:
		same(t, exactSum(last...), got, "%s", name)
	case worker.Avg:
		same(t, exactSum(last...)/modelWorkers, got, "%s", name)
	case worker.MostRecent:
		same(t, last[mostRecentSlot(i)], got, "%s", name)
	case worker.Min:
		same(t, slices.Min(numbers), got, "%s", name)
	case worker.Max:
		same(t, slices.Max(numbers), got, "%s", name)
	}
}

// same is equality in which NaN is equal to NaN.
func same(t *testing.T, want, got float64, format string, args ...any) {
	t.Helper()
	if math.IsNaN(want) && math.IsNaN(got) {
		return
	}
	if want != got {
		assert.Equal(t, want, got, append([]any{format}, args...)...)
	}
}
