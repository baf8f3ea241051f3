package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore"
)

// nativeOpts are a histogram with native buckets, alone and beside classic ones.
var nativeOpts = map[string]prometheus.HistogramOpts{
	"native": {Name: "h", Help: "Help.", NativeHistogramBucketFactor: 1.1},
	"both":   {Name: "h", Help: "Help.", NativeHistogramBucketFactor: 1.1, Buckets: []float64{-1, 0, 0.5, 2.5}},
}

// oddValues are such as are not in buckets like all others.
var oddValues = []float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, -math.MaxFloat64,
	math.SmallestNonzeroFloat64, 1, -1, 0x1p-128, 1e-300}

// anyValue is a value from a distribution that is wide and has both signs.
func anyValue(r *rand.Rand) float64 {
	if r.IntN(100) == 0 {
		return oddValues[r.IntN(len(oddValues))]
	}
	return r.NormFloat64() * math.Exp(4*r.NormFloat64())
}

// withoutSum is a histogram as text that compares, without what depends on the order of additions or on the clock.
func withoutSum(h *dto.Histogram) string {
	h.CreatedTimestamp, h.SampleSum = nil, nil
	return strings.ReplaceAll(prototext.MarshalOptions{}.Format(h), "  ", " ")
}

// likeTheirs is what a histogram of client_golang with the same values would be: at the same resolution and with the same
// zero bucket, because that is the same whether it was so from the beginning or became so.
func likeTheirs(t testing.TB, opts prometheus.HistogramOpts, like *dto.Histogram, values []float64) string {
	t.Helper()
	opts.NativeHistogramMaxBucketNumber = 0
	opts.NativeHistogramBucketFactor = math.Exp2(math.Exp2(0.5 - float64(like.GetSchema())))
	if opts.NativeHistogramZeroThreshold = like.GetZeroThreshold(); like.GetZeroThreshold() == 0 {
		opts.NativeHistogramZeroThreshold = prometheus.NativeHistogramZeroThresholdZero
	}
	h := prometheus.NewHistogram(opts)
	for _, v := range values {
		h.Observe(v)
	}
	return withoutSum(written(t, h).Histogram)
}

func TestNativeIsClientGolangs(t *testing.T) {
	for _, p := range places {
		for kind, opts := range nativeOpts {
			for _, change := range []func(*prometheus.HistogramOpts){
				func(*prometheus.HistogramOpts) {},
				func(o *prometheus.HistogramOpts) { o.NativeHistogramBucketFactor = 1.002 },
				func(o *prometheus.HistogramOpts) { o.NativeHistogramBucketFactor = 70000 },
				func(o *prometheus.HistogramOpts) { o.NativeHistogramZeroThreshold = 0.3 },
				func(o *prometheus.HistogramOpts) {
					o.NativeHistogramZeroThreshold = prometheus.NativeHistogramZeroThresholdZero
				},
				func(o *prometheus.HistogramOpts) { o.NativeHistogramMaxBucketNumber = 300 },
			} {
				change(&opts)
				r := p.make(t)
				ours, theirs := r.newHistogram(opts), prometheus.NewHistogram(opts)
				require.Equal(t, withoutSum(written(t, theirs).Histogram), withoutSum(written(t, ours).Histogram))
				values := append([]float64(nil), oddValues...)
				random := rand.New(rand.NewPCG(1, 2))
				for range 60 {
					values = append(values, anyValue(random))
				}
				for _, v := range values {
					ours.Observe(v)
					theirs.Observe(v)
				}
				require.Equal(t, withoutSum(written(t, theirs).Histogram), withoutSum(written(t, ours).Histogram),
					"%s in %s, %+v", kind, p.name, opts)
			}
		}
	}
}

func TestNativeTextIsClientGolangs(t *testing.T) {
	for _, p := range places {
		for kind, opts := range nativeOpts {
			r := p.make(t)
			registry := prometheus.NewRegistry()
			ours, theirs := r.newHistogramVec(opts, []string{"a"}), prometheus.NewHistogramVec(opts, []string{"a"})
			registry.MustRegister(theirs)
			for i, v := range []float64{1, 0.25, -3, 0, 100} {
				ours.WithLabelValues(fmt.Sprint(i % 2)).Observe(v)
				theirs.WithLabelValues(fmt.Sprint(i % 2)).Observe(v)
			}
			text := func(g prometheus.Gatherer) string {
				families, err := g.Gather()
				require.NoError(t, err)
				var b strings.Builder
				for _, mf := range families {
					if mf.GetName() == "h" {
						_, err := expfmt.MetricFamilyToText(&b, mf)
						require.NoError(t, err)
					}
				}
				return b.String()
			}
			require.Equal(t, text(registry), text(gatherer{r}), "%s in %s", kind, p.name)
			require.Contains(t, text(gatherer{r}), `h_bucket{a="0",le="+Inf"} 3`)
		}
	}
}

// A histogram with too many buckets is as one of client_golang that has done the same, except that it counts from its
// beginning on: it has no resets.
func TestNativeLimit(t *testing.T) {
	for _, p := range places {
		for _, opts := range []prometheus.HistogramOpts{
			{NativeHistogramMaxBucketNumber: 1},
			{NativeHistogramMaxBucketNumber: 20},
			{NativeHistogramMaxBucketNumber: 20, NativeHistogramMaxZeroThreshold: 0.01},
			{NativeHistogramMaxBucketNumber: 7, NativeHistogramMaxZeroThreshold: 1e300},
			{NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: 1},
			{}, // the default's limit
			{NativeHistogramMaxBucketNumber: math.MaxUint32},
		} {
			opts.Name, opts.NativeHistogramBucketFactor, opts.Buckets = "h", 1.005, []float64{-1, 0, 1}
			random := rand.New(rand.NewPCG(5, 6))
			h := p.make(t).newHistogram(opts)
			limit := h.def.family.Native.Buckets
			var values []float64
			schema, threshold := math.MaxInt32, 0.0
			for i := range 1500 {
				v := anyValue(random)
				values = append(values, v)
				h.Observe(v)
				if i%100 != 0 && i < 1480 {
					continue
				}
				got := written(t, h).Histogram
				require.LessOrEqual(t, int(got.GetSchema()), schema)
				require.GreaterOrEqual(t, got.GetZeroThreshold(), threshold)
				schema, threshold = int(got.GetSchema()), got.GetZeroThreshold()
				_, used := h.table.Load().nearest()
				require.True(t, used <= limit || schema == -4, "%d buckets at schema %d", used, schema)
				require.LessOrEqual(t, used, 7*len(h.table.Load().slots)/8)
				require.Equal(t, likeTheirs(t, opts, got, values), withoutSum(got))
			}
			if limit == 20 && opts.NativeHistogramMaxZeroThreshold == 0.01 {
				require.Greater(t, threshold, prometheus.DefNativeHistogramZeroThreshold)
			}
		}
	}
}

// As long as no limit is exceeded twice between two values, which resolution comes out is client_golang's choice, too.
func TestNativeLimitIsReachedInClientGolangsWay(t *testing.T) {
	opts := prometheus.HistogramOpts{Name: "h", NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 30,
		NativeHistogramMaxZeroThreshold: 0.001}
	ours, theirs := inStore(t).newHistogram(opts), prometheus.NewHistogram(opts)
	random := rand.New(rand.NewPCG(7, 8))
	for range 2000 {
		v := math.Exp(2 * random.NormFloat64())
		ours.Observe(v)
		theirs.Observe(v)
		require.Equal(t, withoutSum(written(t, theirs).Histogram), withoutSum(written(t, ours).Histogram))
	}
}

// What several processes with different native options observe adds up to what one process of client_golang would have at
// the coarsest resolution.
func TestNativeMergesToClientGolangs(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	for round := range 12 {
		dir := storeDir(t)
		opts := nativeOpts[[]string{"native", "both"}[round%2]]
		var histograms []*Histogram
		for slot := range 4 {
			r := inMemory(t)
			require.NoError(t, r.open(dir, slot))
			own := opts
			if round >= 2 {
				own.NativeHistogramBucketFactor = []float64{1.003, 1.02, 1.1, 3}[random.IntN(4)]
			}
			if round >= 4 {
				own.NativeHistogramMaxBucketNumber = []uint32{0, 40, 100}[random.IntN(3)]
			}
			if round >= 8 {
				own.NativeHistogramZeroThreshold = []float64{0, -1, 0.7, 1e-5}[random.IntN(4)]
				own.NativeHistogramMaxZeroThreshold = []float64{0, 2}[random.IntN(2)]
			}
			histograms = append(histograms, r.newHistogram(own))
		}
		s, err := aggregate.Open(dir, aggregate.Options{Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		var values []float64
		schema, threshold := math.MaxInt32, 0.0
		for range 10 {
			for range 100 {
				v := anyValue(random)
				values = append(values, v)
				histograms[random.IntN(len(histograms))].Observe(v)
			}
			families, err := s.Gather()
			require.NoError(t, err)
			require.Equal(t, "h", families[0].GetName())
			got := families[0].Metric[0].Histogram
			require.Equal(t, likeTheirs(t, opts, got, values), withoutSum(got), "round %d", round)
			require.LessOrEqual(t, int(got.GetSchema()), schema)
			require.GreaterOrEqual(t, got.GetZeroThreshold(), threshold)
			schema, threshold = int(got.GetSchema()), got.GetZeroThreshold()
			coarsest := math.MaxInt32
			for _, h := range histograms {
				coarsest = min(coarsest, h.table.Load().schema())
			}
			require.Equal(t, coarsest, schema)
		}
		require.NoError(t, s.Close())
	}
}

func TestNativeOptionsThatConflict(t *testing.T) {
	r := inMemory(t)
	other := nativeOpts["native"]
	other.ConstLabels = prometheus.Labels{"a": "w"}
	h := r.newHistogram(other)
	require.Same(t, h, r.newHistogram(other))
	other.NativeHistogramBucketFactor = 2
	other.ConstLabels = prometheus.Labels{"a": "x"}
	require.ErrorContains(t, panicOf(func() { r.newHistogram(other) }), "the native buckets")
	other.NativeHistogramBucketFactor, other.Buckets = 0, []float64{1}
	require.ErrorContains(t, panicOf(func() { r.newHistogram(other) }), "the buckets")
	both := nativeOpts["both"]
	both.Name = "both"
	r.newHistogram(both)
	both.NativeHistogramBucketFactor = 0
	require.ErrorContains(t, panicOf(func() { r.newHistogram(both) }), "the native buckets")
	for _, odd := range []float64{math.NaN(), math.Inf(1)} {
		o := prometheus.HistogramOpts{Name: "odd", NativeHistogramBucketFactor: 2, NativeHistogramZeroThreshold: odd,
			NativeHistogramMaxZeroThreshold: odd}
		r := inStore(t)
		r.newHistogram(o).Observe(3)
		require.Equal(t, uint64(1), written(t, r.newHistogram(o)).Histogram.GetSampleCount())
		require.Empty(t, r.binding.overflow)
	}
}

// Many goroutines count while the resolution changes all the time, and while the series moves into a store and out of it.
func TestNothingIsLostWhileTheResolutionChanges(t *testing.T) {
	for _, moving := range []bool{false, true} {
		for _, p := range places {
			r := p.make(t)
			vec := r.newHistogramVec(prometheus.HistogramOpts{Name: "h", NativeHistogramBucketFactor: 1.01,
				NativeHistogramMaxBucketNumber: 10, NativeHistogramMaxZeroThreshold: 1e300, Buckets: []float64{1}}, []string{"n"})
			const goroutines, each = 8, 300
			for round := range 20 {
				h := vec.WithLabelValues(fmt.Sprint(round)).(*Histogram)
				var stop atomic.Bool
				var all, mover sync.WaitGroup
				if moving {
					mover.Go(func() {
						for !stop.Load() {
							require.NoError(t, r.detach())
							require.NoError(t, r.open(storeDir(t), 0))
						}
					})
				}
				for g := range goroutines {
					all.Go(func() {
						for i := range each {
							// Each wider than all before, in both directions, so that there is always a new bucket.
							v := math.Ldexp(1, (i*goroutines+g)%900)
							if i%2 == 0 {
								v = -v
							}
							h.Observe(v)
						}
					})
				}
				all.Wait()
				stop.Store(true)
				mover.Wait()
				got := written(t, h).Histogram
				require.Equal(t, uint64(goroutines*each), got.GetSampleCount())
				var inBuckets int64
				for _, deltas := range [][]int64{got.PositiveDelta, got.NegativeDelta} {
					count := int64(0)
					for _, d := range deltas {
						count += d
						inBuckets += count
					}
				}
				require.Equal(t, int64(goroutines*each), inBuckets+int64(got.GetZeroCount()))
				require.GreaterOrEqual(t, got.Bucket[0].GetCumulativeCount(), uint64(goroutines*each/2))
			}
		}
	}
}

// A slot that is full hands over to another one.
func TestNativeSlotsThatAreFull(t *testing.T) {
	h := inStore(t).newHistogram(nativeOpts["native"])
	h.Observe(3)
	h.Observe(0)
	for i, slot := range h.table.Load().slots {
		if slot != 0 {
			h.table.Load().slots[i] += shmstore.SlotMax - 2
		}
	}
	for range 3 {
		h.Observe(3)
		h.Observe(0)
	}
	check := func() {
		t.Helper()
		got := written(t, h).Histogram
		require.Equal(t, uint64(shmstore.SlotMax+2), got.GetZeroCount())
		require.Equal(t, []int64{shmstore.SlotMax + 2}, got.PositiveDelta)
		require.Equal(t, uint64(2*shmstore.SlotMax+4), got.GetSampleCount())
	}
	check()
	h.def.registry.mu.Lock()
	h.halveNative(h.table.Load())
	h.def.registry.mu.Unlock()
	check()
	h.def.registry.mu.Lock()
	n := h.table.Load()
	for range 3 {
		n.put(h.table.Load().code(3), shmstore.SlotMax)
	}
	h.halveNative(n)
	h.def.registry.mu.Unlock()
	require.Equal(t, []int64{4*shmstore.SlotMax + 2}, written(t, h).Histogram.PositiveDelta)
}

// The process that is killed while the resolution of its histogram changes.
const nativeVariable = "WORKER_TEST_NATIVE"

func init() {
	dir := os.Getenv(nativeVariable)
	if dir == "" {
		return
	}
	r := newRegistry(nil)
	if err := r.open(dir, 0); err != nil {
		panic(err)
	}
	h := r.newHistogram(killedOpts)
	for i := uint64(0); ; i++ {
		h.Observe(killedValue(i))
		if err := binary.Write(os.Stdout, binary.NativeEndian, i+1); err != nil {
			os.Exit(1)
		}
	}
}

var killedOpts = prometheus.HistogramOpts{Name: "h", NativeHistogramBucketFactor: 1.05, NativeHistogramMaxBucketNumber: 12,
	NativeHistogramMaxZeroThreshold: 1e250, Buckets: []float64{0, 1e100}}

// killedValue returns values nearly each of which needs a wider zero bucket.
func killedValue(i uint64) float64 {
	return math.Ldexp(1+float64(i%7)/8, int(i%800)) * float64(1-2*int(i%2))
}

func TestKilledWhileTheResolutionChanges(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	exe, err := os.Executable()
	require.NoError(t, err)
	for range 20 {
		dir := storeDir(t)
		child := exec.Command(exe)
		child.Env = append(os.Environ(), nativeVariable+"="+dir)
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		// The child is killed after an answer; what else it has said by then is answered too.
		answered := make([]byte, 8*(1+random.IntN(900)))
		_, err = io.ReadFull(out, answered)
		require.NoError(t, err)
		require.NoError(t, child.Process.Kill())
		rest, err := io.ReadAll(out)
		require.NoError(t, err)
		var exit *exec.ExitError
		require.True(t, errors.As(child.Wait(), &exit))
		n := uint64(len(answered)+len(rest)) / 8

		s, err := aggregate.Open(dir, aggregate.Options{ReadOnly: true, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		families, err := s.Gather()
		require.NoError(t, err)
		got := families[0].Metric[0].Histogram
		count := got.GetSampleCount()
		require.True(t, count == n || count == n+1, "%d were answered, there are %d", n, count)
		var values []float64
		for i := range count {
			values = append(values, killedValue(i))
		}
		like := likeTheirs(t, killedOpts, got, values)
		if count == n {
			require.Equal(t, like, withoutSum(got))
		} else {
			// The one that was not answered may be in the native buckets only.
			got.Bucket = nil
			opts := killedOpts
			opts.Buckets = nil
			require.Equal(t, likeTheirs(t, opts, got, values), withoutSum(got))
		}
		require.NoError(t, s.Close())
	}
}

func TestNativeHotPathDoesNotAllocate(t *testing.T) {
	for _, p := range places {
		for kind, opts := range nativeOpts {
			r := p.make(t)
			h := r.newHistogram(opts)
			i := 0
			assert.Zero(t, testing.AllocsPerRun(1000, func() { h.Observe(latencies[i]); i++ }), "%s in %s", kind, p.name)
			opts.Name = "vec"
			vec := r.newHistogramVec(opts, []string{"a"})
			assert.Zero(t, testing.AllocsPerRun(1000, func() { vec.WithLabelValues("x").Observe(latencies[i]); i++ }), kind)
		}
	}
}

func benchmarkNative(b *testing.B, opts prometheus.HistogramOpts, next func(i int) float64) {
	peers(b, func(b *testing.B) {
		h := prometheus.NewHistogram(opts)
		for i := 0; b.Loop(); i++ {
			h.Observe(next(i))
		}
	}, func(b *testing.B, r *registry) {
		h := r.newHistogram(opts)
		for i := 0; b.Loop(); i++ {
			h.Observe(next(i))
		}
	})
}

func BenchmarkNativeObserve(b *testing.B) {
	both := nativeOpts["both"]
	both.Buckets = prometheus.DefBuckets
	for _, kind := range []struct {
		name string
		opts prometheus.HistogramOpts
	}{{"native", nativeOpts["native"]}, {"both", both}} {
		b.Run("buckets="+kind.name+"/values=lognormal", func(b *testing.B) {
			benchmarkNative(b, kind.opts, func(i int) float64 { return latencies[i%len(latencies)] })
		})
		b.Run("buckets="+kind.name+"/values=one", func(b *testing.B) {
			benchmarkNative(b, kind.opts, func(int) float64 { return 0.42 })
		})
	}
}

func BenchmarkNativeObserveParallel(b *testing.B) {
	opts := nativeOpts["native"]
	peers(b, func(b *testing.B) {
		h := prometheus.NewHistogram(opts)
		b.RunParallel(func(pb *testing.PB) {
			for i := rand.IntN(len(latencies)); pb.Next(); i++ {
				h.Observe(latencies[i%len(latencies)])
			}
		})
	}, func(b *testing.B, r *registry) {
		h := r.newHistogram(opts)
		b.RunParallel(func(pb *testing.PB) {
			for i := rand.IntN(len(latencies)); pb.Next(); i++ {
				h.Observe(latencies[i%len(latencies)])
			}
		})
	})
}

func TestNativeExemplars(t *testing.T) {
	for _, p := range places {
		for kind, opts := range nativeOpts {
			r := p.make(t)
			h := r.newHistogram(opts)
			h.ObserveWithExemplar(0.25, prometheus.Labels{"trace_id": "a"})
			h.ObserveWithExemplar(7, prometheus.Labels{"trace_id": "b"})
			families, err := gatherer{r}.Gather()
			require.NoError(t, err)
			var shown []string
			for _, mf := range families {
				if mf.GetName() == "h" {
					for _, e := range mf.Metric[0].Histogram.Exemplars {
						shown = append(shown, fmt.Sprint(e.Label[0].GetValue(), e.GetValue()))
					}
				}
			}
			want := map[string][]string{"native": {"a0.25", "b7"}, "both": {"a0.25", "b7"}}
			require.Equal(t, want[kind], shown, p.name)
		}
	}
}

// A writer that was stopped in the midst of an observation counts in a table that is being filled, two tables later.
func TestWriterThatWakesTwoTablesLater(t *testing.T) {
	h := inMemory(t).newHistogram(nativeOpts["native"])
	stale := h.table.Load()
	filled := &nativeTable{shift: stale.shift, threshold: stale.threshold, halvings: stale.halvings, free: 2}
	filled.slots, filled.limit = stale.slots, stale.limit
	for i := range filled.slots {
		filled.slots[i] = filled.free
	}
	code := stale.code(3)
	const puts = 200_000
	filled.put(code, 1)
	counts := uint64(0)
	var filling sync.WaitGroup
	filling.Go(func() {
		for range puts {
			filled.put(code, 1)
		}
	})
	for range puts {
		if stale.add(code) == counted {
			counts++
		}
	}
	filling.Wait()
	require.Equal(t, uint64(puts), counts)
	_, count := shmstore.Slot(filled.slots[filled.home(code)&uint(len(filled.slots)-1)])
	require.Equal(t, 1+puts+counts, count)
}
