package integration

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/worker"
)

const (
	nativeWorkers = 4
	nativeEach    = 500
)

// nativeValues are what the worker of a slot observes: a log-normal distribution of its own.
func nativeValues(slot int) []float64 {
	random := rand.New(rand.NewPCG(uint64(slot), 77))
	values := make([]float64, nativeEach)
	for i := range values {
		values[i] = 0.03 * float64(slot+1) * math.Exp(random.NormFloat64())
	}
	return values
}

// nativeFamilies are histograms with native buckets alone, beside classic ones, and of another resolution in each slot.
func nativeFamilies(slot int) []prometheus.HistogramOpts {
	return []prometheus.HistogramOpts{
		{Name: "native_seconds", Help: "Native.", NativeHistogramBucketFactor: 1.1},
		{Name: "both_seconds", Help: "Both.", NativeHistogramBucketFactor: 1.1, Buckets: prometheus.DefBuckets},
		{Name: "mixed_seconds", Help: "Mixed.", NativeHistogramBucketFactor: []float64{1.01, 1.05, 1.1, 1.2}[slot]},
	}
}

func observeNatives(w *worker.Worker) error {
	for _, opts := range nativeFamilies(w.Slot()) {
		h := worker.NewHistogram(opts)
		for _, v := range nativeValues(w.Slot()) {
			h.Observe(v)
		}
	}
	return nil
}

// A real Prometheus, which scrapes protobuf, computes from the native histograms of four workers the quantiles of all values.
func TestPrometheusScrapesNativeHistograms(t *testing.T) {
	long(t)
	peer(t, "prometheus", "prometheus")
	argv, env := asRole("native")
	s := startRun(t, env, nativeWorkers, nil, argv...)
	api := startPrometheus(t, strings.TrimPrefix(s.base, "http://"), "--enable-feature=native-histograms")

	var values []float64
	for slot := range nativeWorkers {
		values = append(values, nativeValues(slot)...)
	}
	check := func() {
		t.Helper()
		slices.Sort(values)
		sum := 0.0
		for _, v := range values {
			sum += v
		}
		for i, name := range []string{"native_seconds", "both_seconds", "mixed_seconds"} {
			factor := math.Exp2(1. / 8)
			if i == 2 {
				factor = math.Exp2(1. / 4)
			}
			eventually(t, "a scrape of "+name, func() bool {
				n, _ := query(t, api, "histogram_count("+name+")")
				require.LessOrEqual(t, n, float64(len(values)))
				return n == float64(len(values))
			})
			got, _ := query(t, api, "histogram_sum("+name+")")
			assert.InEpsilon(t, sum, got, 1e-9, name)
			for _, q := range []float64{0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999} {
				want := values[int(math.Ceil(q*float64(len(values))))-1]
				got, ok := query(t, api, fmt.Sprintf("histogram_quantile(%v, %s)", q, name))
				require.True(t, ok)
				// The bucket that has the value, whose bounds are powers of the factor.
				upper := math.Pow(factor, math.Ceil(math.Log(want)/math.Log(factor)))
				assert.LessOrEqual(t, got, upper*(1+1e-9), "%s: the quantile %v, which is %v", name, q, want)
				assert.GreaterOrEqual(t, got, upper/factor*(1-1e-9), "%s: the quantile %v, which is %v", name, q, want)
			}
		}
	}
	check()

	// A worker is killed and its successor observes the same again: what the first one counted stays.
	st := s.status()
	require.NoError(t, syscall.Kill(st.Slots[2].PID, syscall.SIGKILL))
	values = append(values, nativeValues(2)...)
	check()

	// As the documentation says of a family that has both kinds.
	if _, old := query(t, api, `prometheus_build_info{version=~"2[.]4[0-4][.].*"}`); old {
		for _, suffix := range []string{"bucket", "count", "sum"} {
			_, ok := query(t, api, "count(both_seconds_"+suffix+")")
			assert.False(t, ok, "the classic series beside a native histogram is dropped: %s", suffix)
		}
	}
	text := mustScrape(t, s.metrics)
	assert.Len(t, text["both_seconds"].Metric[0].Histogram.Bucket, len(prometheus.DefBuckets)+1)
	assert.Equal(t, uint64(len(values)), text["native_seconds"].Metric[0].Histogram.GetSampleCount())
	_, broken := text.rising()
	assert.Empty(t, broken)
}
