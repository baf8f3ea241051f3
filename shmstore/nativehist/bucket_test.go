package nativehist

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// factorOf returns a bucket factor that has a schema.
func factorOf(schema int) float64 { return math.Exp2(math.Exp2(0.5 - float64(schema))) }

// theirs is a histogram of client_golang.
func theirs(t testing.TB, schema int, threshold float64, values ...float64) *dto.Histogram {
	t.Helper()
	if threshold == 0 {
		threshold = -1
	}
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "h", NativeHistogramBucketFactor: factorOf(schema), NativeHistogramZeroThreshold: threshold,
	})
	for _, v := range values {
		h.Observe(v)
	}
	var m dto.Metric
	require.NoError(t, h.Write(&m))
	require.Equal(t, int32(schema), m.Histogram.GetSchema())
	m.Histogram.CreatedTimestamp, m.Histogram.SampleSum = nil, nil
	return m.Histogram
}

// ours is the same of this package.
func ours(schema int, threshold float64, values ...float64) *Counts {
	c := &Counts{}
	c.Begin(schema, threshold, false)
	for _, v := range values {
		switch {
		case v != v:
			c.NaNs++
		case math.Abs(v) <= threshold:
			c.Add(Zero, 1)
		default:
			c.Add(Of(v, uint(MaxSchema-schema)), 1)
		}
	}
	return c
}

func written(c *Counts) *dto.Histogram {
	h := &dto.Histogram{SampleCount: new(c.Total()), Bucket: []*dto.Bucket{}}
	c.Write(h)
	return h
}

func TestSchema(t *testing.T) {
	for _, factor := range []float64{1.0000001, 1.002, 1.0027, 1.003, 1.05, 1.1, 1.2, 1.5, 1.99, 2, 2.1, 3, 4, 10, 16, 100, 256, 1000, 65535,
		65536, 1e6, 1e30, math.Inf(1)} {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", NativeHistogramBucketFactor: factor})
		var m dto.Metric
		require.NoError(t, h.Write(&m))
		assert.Equal(t, int(m.Histogram.GetSchema()), Schema(factor), factor)
	}
}

// values are those at which a bucket may be missed: all bounds of the finest schema, their neighbours, and the ends.
func values() (all []float64) {
	for _, e := range []int{-1074, -1073, -1060, -1022, -1, 0, 1, 1023} {
		for i := range perDoubling {
			v := math.Ldexp(math.Float64frombits(bounds[i]|1023<<mantissa), e)
			all = append(all, v, math.Nextafter(v, 0), math.Nextafter(v, math.Inf(1)))
		}
	}
	all = slices.DeleteFunc(all, func(v float64) bool { return v == 0 })
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		if v := math.Float64frombits(r.Uint64()); v == v {
			all = append(all, v)
		}
	}
	return append(all, math.SmallestNonzeroFloat64, math.MaxFloat64, math.Inf(1), math.Inf(-1), -math.MaxFloat64)
}

// Every value is in the bucket where client_golang has it, at every schema.
func TestBucketsAreTheirs(t *testing.T) {
	all := values()
	for schema := MinSchema; schema <= MaxSchema; schema++ {
		for _, threshold := range []float64{0, 0x1p-128, 1} {
			require.Equal(t, theirs(t, schema, threshold, append(all, 0, math.NaN())...),
				written(ours(schema, threshold, append(all, 0, math.NaN())...)), "schema %d", schema)
		}
	}
}

func TestBoundsAndCodes(t *testing.T) {
	for schema := MinSchema; schema <= MaxSchema; schema++ {
		shift := uint(MaxSchema - schema)
		for _, v := range values() {
			i := Bucket(v, shift)
			require.LessOrEqual(t, math.Abs(v), Upper(i, schema))
			if math.Abs(v) > 0x1p-1022 { // below, bounds are rounded
				require.Greater(t, math.Abs(v), Upper(i-1, schema))
			}
			code := Of(v, shift)
			require.Equal(t, CodeOf(i, v < 0), code)
			require.Equal(t, i, code.Bucket())
			require.Equal(t, v < 0, code.Negative())
			require.True(t, code.Valid(schema))
			require.Less(t, code, Code(1<<CodeBits))
			if schema > MinSchema {
				require.Equal(t, Of(v, shift+1), code.Coarser(1))
			}
			require.Equal(t, Of(v, MaxSchema-MinSchema), code.Coarser(uint(schema-MinSchema)))
		}
		require.False(t, CodeOf(coarser(maxFine-1, shift)+2, false).Valid(schema))
		require.False(t, CodeOf(coarser(minFine, shift)-1, true).Valid(schema))
		require.False(t, Code(0).Valid(schema))
		require.False(t, Code(1<<CodeBits|uint32(CodeOf(0, true))).Valid(schema))
	}
	require.Equal(t, Zero, Zero.Coarser(3))
	require.True(t, Zero.Valid(0))
}

// Whatever is added up in whatever order and grouping, the sum is the histogram that client_golang would have made of all
// the values at the resulting schema and zero threshold.
func TestCountsAddUp(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		parts := make([]*Counts, 1+r.IntN(5))
		schema, threshold := MaxSchema, 0.0
		common := math.Ldexp(r.Float64(), r.IntN(10)-8)
		sameThreshold := r.IntN(2) == 0
		var all []float64
		for i := range parts {
			s, z := r.IntN(MaxSchema-MinSchema+1)+MinSchema, common
			if !sameThreshold {
				z = []float64{0, 0x1p-128, 0.3, math.Ldexp(r.Float64(), r.IntN(20)-10)}[r.IntN(4)]
			}
			var values []float64
			for range r.IntN(200) {
				values = append(values, r.NormFloat64()*math.Exp(3*r.NormFloat64()))
			}
			if r.IntN(5) == 0 {
				values = append(values, math.Inf(1), math.NaN(), math.Inf(-1), 0)
			}
			schema, threshold = min(schema, s), max(threshold, z)
			parts[i] = ours(s, z, values...)
			all = append(all, values...)
		}
		flat, nested := &Counts{}, &Counts{}
		for _, p := range parts {
			flat.AddCounts(p)
		}
		r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		for len(parts) > 0 {
			n := 1 + r.IntN(len(parts))
			group := &Counts{}
			for _, p := range parts[:n] {
				group.AddCounts(p)
			}
			nested.AddCounts(group)
			parts = parts[n:]
		}
		require.Equal(t, written(flat), written(nested))
		require.Equal(t, schema, flat.Schema)
		require.GreaterOrEqual(t, flat.ZeroThreshold(), threshold)
		want := theirs(t, schema, flat.ZeroThreshold(), all...)
		require.Equal(t, want, written(flat), "threshold %v of %v", flat.ZeroThreshold(), threshold)
	}
}

func TestCountsOfValuesThatAreNotExceeded(t *testing.T) {
	c := &Counts{}
	for _, v := range []float64{-2, 0, 0.5, 3, math.Inf(1)} {
		c.AddUpTo(v, 2)
	}
	c.AddUpTo(1, 0)
	c.Begin(0, 0.5, false)
	c.AddUpTo(3, 1)
	require.Equal(t, theirs(t, 0, 0.5, -2, -2, 0, 0, 0.5, 0.5, 3, 3, 3, math.Inf(1), math.Inf(1)), written(c))
	assert.Equal(t, uint64(11), c.Total())
	uppers := map[float64]uint64{}
	c.Each(func(upper float64, n uint64) { uppers[upper] += n })
	assert.Equal(t, map[float64]uint64{-1: 2, 0.5: 4, 4: 3, math.Inf(1): 2}, uppers)
	c.Reset()
	assert.Zero(t, c.Total())
	assert.Equal(t, Counts{Buckets: map[Code]uint64{}}, *c)
}

func TestCountsSaturate(t *testing.T) {
	c := ours(0, 0, 3)
	c.Add(Of(3, 8), math.MaxUint64)
	c.Add(Of(9, 8), 5)
	assert.Equal(t, uint64(math.MaxUint64), c.Total())
	h := written(c)
	assert.Equal(t, int64(math.MaxInt64), h.PositiveDelta[0])
	assert.Equal(t, int64(5), h.PositiveDelta[0]+h.PositiveDelta[1]+h.PositiveDelta[2])
}
