package boundindex

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// Wherever the search begins, it ends at the bucket that it ends at from the first bound on.
func TestBucketIsTheFirstThatHoldsTheValue(t *testing.T) {
	negative := math.Copysign(0, -1)
	for _, bounds := range [][]float64{
		nil, {0}, {negative}, {-1}, {-3, -2, -1}, {1}, {-1, 0, 1}, {negative, 1}, {0, 5e-324, 1e-310, 1}, {-2, 3},
		{1, 1.25, 1.5, 1.75, 2}, {1, math.Nextafter(2, 0), 2, math.Nextafter(2, 3)}, {math.Inf(-1), 0, math.MaxFloat64},
		{-math.MaxFloat64, math.SmallestNonzeroFloat64, math.MaxFloat64}, prometheus.DefBuckets,
		prometheus.LinearBuckets(-10, 0.7, 30), prometheus.ExponentialBuckets(1e-300, 1e20, 30),
		prometheus.ExponentialBuckets(0.001, 1.1, 32),
	} {
		values := []float64{0, negative, 1, -1, math.NaN(), -math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64,
			-math.MaxFloat64, math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64}
		for _, b := range bounds {
			values = append(values, b, -b, math.Nextafter(b, math.Inf(1)), math.Nextafter(b, math.Inf(-1)), b/2, 2*b)
		}
		for range 1000 {
			values = append(values, math.Float64frombits(rand.Uint64()), 5*rand.NormFloat64())
		}
		binades := New(bounds)
		for _, v := range values {
			want := slices.IndexFunc(bounds, func(b float64) bool { return v <= b })
			if want < 0 {
				want = len(bounds)
			}
			require.Equal(t, want, First(bounds, binades.Begin(v), v), "%v in %v", v, bounds)
		}
	}
}
