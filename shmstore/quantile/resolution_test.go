package quantile

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// That no number is further than Error from the middle of its bucket is proved here for every number there is: the
// distance, relative to the number, is greatest at the ends of a bucket, every octave has the same mantissas, and Bucket
// is right for every mantissa when it is right at each bound, below it, and in between.
func TestNoNumberIsFurtherFromTheMiddleOfItsBucketThanTheError(t *testing.T) {
	const rounding = 1e-15
	random := rand.New(rand.NewPCG(1, 2))
	for n := 1; n <= MaxResolution; n++ {
		r := NewResolution(n)
		require.Equal(t, n, r.Buckets())
		gamma := (1 + r.Error()) / (1 - r.Error())
		require.Equal(t, 1.0, r.bound(0))
		require.Equal(t, 2.0, r.bound(n))
		for i := range n {
			low, high := r.bound(i), r.bound(i+1)
			require.Less(t, low, high)
			require.LessOrEqual(t, high/low, gamma*(1+rounding))
			for _, v := range []float64{low, high} {
				require.LessOrEqual(t, math.Abs(r.middle[i]-v), (r.Error()+rounding)*v, "bucket %d of %d", i, n)
			}
			first, last := r.bounds[i], r.bounds[i+1]-1
			for _, mantissa := range []uint64{first, last, first + random.Uint64N(last-first+1)} {
				require.Equal(t, i, r.Bucket(mantissa))
				require.Equal(t, i, r.Bucket(random.Uint64()&^mantissaMask|mantissa), "whatever sign and exponent")
			}
		}
		// Between two bounds there is no other one: Bucket changes nowhere else.
		for c := range uint64(len(r.start)) {
			first := c << (mantissaBits - startBits)
			last := first | 1<<(mantissaBits-startBits) - 1
			require.LessOrEqual(t, r.Bucket(last)-r.Bucket(first), 1)
		}
	}
}

func TestResolutionForAnError(t *testing.T) {
	assert.Equal(t, 35, ResolutionFor(0.01), "as the documentation of NewSummary computes with")
	for _, e := range []float64{0.5, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002} {
		n := ResolutionFor(e)
		assert.LessOrEqual(t, NewResolution(n).Error(), e)
		if n > 1 {
			assert.Greater(t, NewResolution(n-1).Error(), e, "no finer than it takes")
		}
	}
	assert.Equal(t, MaxResolution, ResolutionFor(1e-9))
	assert.Equal(t, 1, ResolutionFor(0.9))
	assert.InDelta(t, 0.0014, NewResolution(MaxResolution).Error(), 0.0001)
}

func TestOctaves(t *testing.T) {
	for v, want := range map[float64]int{
		1: 64, 1.99: 64, 2: 65, 0.5: 63, -1: 192, -0.75: 191, 0x1p-64: 0, -0x1p-64: 128,
		math.Nextafter(0x1p64, 0): 127, -math.Nextafter(0x1p64, 0): 255,
		0: -1, math.Copysign(0, -1): -1, math.Nextafter(0x1p-64, 0): -1, math.SmallestNonzeroFloat64: -1,
		0x1p64: -1, -0x1p64: -1, math.MaxFloat64: -1, math.Inf(1): -1, math.Inf(-1): -1,
	} {
		octave, ok := Octave(math.Float64bits(v))
		assert.Equal(t, want >= 0, ok, v)
		if ok {
			assert.Equal(t, uint64(want), octave, v)
			r := NewResolution(35)
			middle := r.value(uint8(octave), r.Bucket(math.Float64bits(v)))
			assert.LessOrEqual(t, math.Abs(middle-v), 0.01*math.Abs(v))
		}
	}
	_, ok := Octave(math.Float64bits(math.NaN()))
	assert.False(t, ok)
}
