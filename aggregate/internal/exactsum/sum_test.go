package exactsum

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// exactly returns the rounded sum as package big computes it.
func exactly(values []float64) float64 {
	var nan, pos, neg bool
	total := new(big.Float).SetPrec(4000)
	for _, v := range values {
		switch {
		case math.IsNaN(v):
			nan = true
		case math.IsInf(v, 1):
			pos = true
		case math.IsInf(v, -1):
			neg = true
		default:
			total.Add(total, new(big.Float).SetPrec(4000).SetFloat64(v))
		}
	}
	switch {
	case nan || pos && neg:
		return math.NaN()
	case pos:
		return math.Inf(1)
	case neg:
		return math.Inf(-1)
	}
	v, _ := total.Float64()
	if v == 0 {
		return 0
	}
	return v
}

func addAll(s *Sum, values []float64) float64 {
	for _, v := range values {
		s.Add(v)
	}
	return s.Value()
}

func TestSumOfOddNumbers(t *testing.T) {
	largest, smallest := math.MaxFloat64, math.SmallestNonzeroFloat64
	normal := 0x1p-1022
	tests := map[string][]float64{
		"nothing":                nil,
		"negative zero":          {math.Copysign(0, -1)},
		"one":                    {1},
		"tenths":                 {.1, .1, .1, .1, .1, .1, .1, .1, .1, .1},
		"cancellation":           {1e100, 1, -1e100, 1e-100},
		"three words":            {1e100, 1, 1e-100},
		"three words, negative":  {-1e100, -1, -1e-100},
		"tie to even, down":      {1 << 53, 1},
		"tie to even, up":        {1<<53 + 2, 1},
		"tie, broken far below":  {1 << 53, 1, 1e-300},
		"tie, broken far above":  {1 << 53, 1, -1e-300},
		"intermediate overflow":  {largest, largest, -largest},
		"overflow":               {largest, largest},
		"negative overflow":      {-largest, -largest, -largest},
		"just no overflow":       {largest, 0x1p969},
		"just overflow":          {largest, 0x1p970},
		"subnormal":              {smallest, smallest, smallest},
		"subnormal and wide":     {1e300, smallest, -1e300},
		"up to normal":           {normal, -smallest},
		"up to normal, wide":     {largest, normal, -smallest, -largest},
		"negative, wide":         {-largest, -1, -smallest},
		"NaN":                    {1, math.NaN(), 2},
		"infinity":               {1, math.Inf(1), -1e308},
		"negative infinity":      {1, math.Inf(-1)},
		"infinities":             {math.Inf(1), math.Inf(-1), 1},
		"NaN and infinity":       {math.Inf(1), math.NaN()},
		"mantissa rounds to 2^k": {1<<53 - 1, .75, largest, -largest},
	}
	for name, values := range tests {
		t.Run(name, func(t *testing.T) {
			want := math.Float64bits(exactly(values))
			var s Sum
			assert.Equal(t, want, math.Float64bits(addAll(&s, values)))
			s.Reset()
			assert.True(t, s.Empty())
			assert.Zero(t, math.Float64bits(s.Value()))
			for i := range values {
				s.Add(values[len(values)-1-i])
			}
			assert.Equal(t, want, math.Float64bits(s.Value()), "the other way round, in the same sum")
		})
	}
}

// anyFloat returns numbers of all magnitudes; with a narrow spread they mostly fit two words.
func anyFloat(r *rand.Rand, spread int) float64 {
	v := math.Ldexp(r.Float64()*2-1, r.IntN(spread)-spread/2)
	if r.IntN(8) == 0 {
		v = math.Trunc(v)
	}
	return v
}

func TestSumIsExactInAnyOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		spread := []int{4, 20, 60, 120, 400, 2000, 2140}[r.IntN(7)]
		values := make([]float64, 1+r.IntN(40))
		for i := range values {
			values[i] = anyFloat(r, spread)
			if i > 0 && r.IntN(4) == 0 {
				values[i] = -values[r.IntN(i)]
			}
		}
		if r.IntN(20) == 0 {
			values[r.IntN(len(values))] = []float64{math.NaN(), math.Inf(1), math.Inf(-1)}[r.IntN(3)]
		}
		want := math.Float64bits(exactly(values))
		var s Sum
		for range 3 {
			r.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
			require.Equal(t, want, math.Float64bits(addAll(&s, values)), "%v", values)
			s.Reset()
		}
	}
}

func TestSumOfWholeNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		hi, lo := r.Uint64()>>r.IntN(64), r.Uint64()>>r.IntN(64)
		fraction := anyFloat(r, 80)
		whole := new(big.Int).SetUint64(hi)
		whole.Lsh(whole, 64).Add(whole, new(big.Int).SetUint64(lo))
		want := new(big.Float).SetPrec(4000).SetInt(whole)
		want.Add(want, big.NewFloat(fraction))
		rounded, _ := want.Float64()
		var s Sum
		s.Add(fraction)
		s.AddWhole(hi, lo)
		require.Equal(t, rounded, s.Value(), "%x %x %v", hi, lo, fraction)
	}
}

func FuzzSum(f *testing.F) {
	f.Add(1.0, 1e100, -1e100, 5e-324)
	f.Add(math.Inf(1), 1.0, math.NaN(), math.MaxFloat64)
	f.Fuzz(func(t *testing.T, a, b, c, d float64) {
		values := []float64{a, b, c, d, -b, c, a}
		var s Sum
		require.Equal(t, math.Float64bits(exactly(values)), math.Float64bits(addAll(&s, values)))
	})
}

func BenchmarkSum(b *testing.B) {
	r := rand.New(rand.NewPCG(5, 6))
	for name, spread := range map[string]int{"two words": 30, "wide": 300} {
		b.Run(name, func(b *testing.B) {
			values := make([]float64, 1024)
			for i := range values {
				values[i] = anyFloat(r, spread)
			}
			var s Sum
			for i := 0; b.Loop(); i++ {
				if i%32 == 0 {
					s.Reset()
				}
				s.Add(values[i%1024])
			}
		})
	}
}
