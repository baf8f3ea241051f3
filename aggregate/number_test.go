package aggregate

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// plainNumber and openMetricsNumber are what expfmt does, in its plainest form.
func plainNumber(f float64) string {
	switch {
	case f == 0:
		return "0"
	case math.IsInf(f, 1):
		return "+Inf"
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

func openMetricsNumber(f float64) string {
	s := []byte(plainNumber(f))
	if !math.IsNaN(f) && !math.IsInf(f, 0) && !bytes.ContainsAny(s, "e.") {
		s = append(s, ".0"...)
	}
	return string(s)
}

func checkNumber(t *testing.T, f float64) {
	t.Helper()
	require.Equal(t, "="+plainNumber(f), string(appendFloat([]byte("="), f)), "%x", math.Float64bits(f))
	require.Equal(t, "="+openMetricsNumber(f), string(appendOpenMetricsFloat([]byte("="), f)), "%x", math.Float64bits(f))
}

// oddNumbers are those at which formats, or the ways to make them, change.
var oddNumbers = []float64{0, math.Copysign(0, -1), 1, 9, 10, 11, 99, 100, 101, 12345, 99999, 100000, 123456, 999999,
	1e6, 1000001, 1234567, 1.5e6, 1e7, 1e15, 1e16, 1e20, 1e21, 1e22, 1e23, 1e100, .1, .3, .25, 1.5, .01, .001, .0001,
	.00012345, .00001, 12.5, 999999.5, 123456.75, 1e-7, 9.5e-5, 4.35, 5e-324, 2.2250738585072014e-308, 0x1p-1022,
	0x1p-1022 - 5e-324, math.MaxFloat64, math.Pi, math.E, 1 << 52, 1<<53 - 1, 1 << 53, 1<<53 + 2, 1 << 63, 1 << 64,
	4.503599627370497e15, 0x1.8p52, math.Inf(1), math.NaN()}

// Every power of two and of ten with its neighbours, and numbers of all kinds, come out as strconv has them.
func TestNumbers(t *testing.T) {
	around := func(f float64) {
		for _, v := range []float64{f, math.Nextafter(f, 0), math.Nextafter(f, math.Inf(1))} {
			checkNumber(t, v)
			checkNumber(t, -v)
		}
	}
	for _, f := range oddNumbers {
		around(f)
	}
	for exponent := -1074; exponent < 1024; exponent++ {
		around(math.Ldexp(1, exponent))
	}
	for exponent := -323; exponent < 309; exponent++ {
		f, err := strconv.ParseFloat("1e"+strconv.Itoa(exponent), 64)
		require.NoError(t, err)
		around(f)
	}
	n := 200_000
	if testing.Short() {
		n = 20_000
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range n {
		checkNumber(t, math.Float64frombits(r.Uint64()))
		checkNumber(t, float64(r.Uint64()>>r.UintN(64)))
		checkNumber(t, r.ExpFloat64())
		checkNumber(t, float64(r.IntN(1e9))/math.Pow10(r.IntN(12)))
		checkNumber(t, float64(r.Uint64N(1<<53))*math.Pow10(r.IntN(40)-20))
	}
}

func FuzzNumber(f *testing.F) {
	for _, v := range oddNumbers {
		f.Add(math.Float64bits(v))
	}
	f.Fuzz(func(t *testing.T, b uint64) { checkNumber(t, math.Float64frombits(b)) })
}

func BenchmarkNumber(b *testing.B) {
	for name, make := range map[string]func(*rand.Rand) float64{
		"whole":     func(r *rand.Rand) float64 { return float64(r.Uint64N(1e6)) },
		"large":     func(r *rand.Rand) float64 { return float64(r.Uint64N(1 << 50)) },
		"fractions": func(r *rand.Rand) float64 { return r.ExpFloat64() * 100 },
	} {
		numbers := [1024]float64{}
		for i, r := 0, rand.New(rand.NewPCG(3, 4)); i < len(numbers); i++ {
			numbers[i] = make(r)
		}
		for peer, format := range map[string]func([]byte, float64) []byte{
			"onescrape": appendFloat,
			"strconv":   func(b []byte, f float64) []byte { return strconv.AppendFloat(b, f, 'g', -1, 64) },
		} {
			b.Run(name+"/peer="+peer, func(b *testing.B) {
				var buf [32]byte
				for i := 0; b.Loop(); i++ {
					format(buf[:0], numbers[i%len(numbers)])
				}
			})
		}
	}
}
