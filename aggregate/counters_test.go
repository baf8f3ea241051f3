package aggregate

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/aggregate/internal/accumulator"
	"github.com/onescrape/onescrape/aggregate/internal/exactsum"
	"github.com/onescrape/onescrape/shmstore"
)

// Whatever counters of many processes hold, their sums are those of accumulator.Counter, which are the exact ones rounded once; and
// what cannot be is rejected by both.
func TestCounterColumnIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	const rows = 50
	numbers := []func() float64{
		func() float64 { return r.Float64() },
		func() float64 { return r.ExpFloat64() * 1e6 },
		func() float64 { return math.Ldexp(1+r.Float64(), r.IntN(80)-20) },
		func() float64 { return math.Float64frombits(r.Uint64()) },
		func() float64 { return oddNumbers[r.IntN(len(oddNumbers))] },
		func() float64 { return math.Nextafter(0x1p-12, float64(r.IntN(2))) },
		func() float64 { return math.Nextafter(0x1p52, float64(r.IntN(2))*math.MaxFloat64) },
	}
	f := newFamily("c", "worker")
	f.rule = counterFamily("c")
	for range rows {
		f.newRow(string(rune(len(f.rows))))
	}
	for round := range 300 {
		// Some rounds have nothing but what fits, after those that had more.
		kinds := 1 + r.IntN(len(numbers))
		want := make([]accumulator.Counter, rows)
		exact := make([]big.Float, rows)
		seen := make([]bool, rows)
		wantBad, bad := 0, 0
		f.begin()
		for range 1 + r.IntN(20) {
			var list entries
			words := make([]uint64, rows*runStride)
			for row := range int32(rows) {
				if r.IntN(4) == 0 {
					continue
				}
				pair := [shmstore.CounterWords]uint64{r.Uint64() >> r.UintN(64), 0}
				if r.IntN(3) > 0 {
					pair[shmstore.CounterFloat] = math.Float64bits(numbers[r.IntN(kinds)]())
				}
				list.add(entry{row: row, cell: row * runStride})
				copy(words[row*runStride:], pair[:])
				v := math.Float64frombits(pair[1])
				possible := pair[0] < accumulator.TooLarge && v >= 0 && v <= math.MaxFloat64
				require.Equal(t, possible, want[row].AddCells(nil, nil, pair[:]))
				sum := exact[row].SetPrec(3000)
				if !possible {
					wantBad++
					continue
				}
				sum.Add(sum, new(big.Float).SetUint64(pair[0]))
				sum.Add(sum, big.NewFloat(v))
				seen[row] = true
			}
			bad += f.addCounters(list.runs, words, liveShown|counted)
		}
		if round%2 == 0 {
			low, high := r.Uint64(), r.Uint64()>>r.UintN(64)
			var fraction exactsum.Sum
			fraction.Add(r.ExpFloat64())
			archived, err := accumulator.FromWords(&f.rule, fraction.AppendWords([]uint64{low, high}), true)
			require.NoError(t, err)
			for row := range int32(rows) {
				f.counters.AddCounter(row, archived.(*accumulator.Counter))
				v := fraction.Value()
				sum := exact[row].SetPrec(3000)
				sum.Add(sum, big.NewFloat(v))
				sum.Add(sum, new(big.Float).SetUint64(low))
				sum.Add(sum, new(big.Float).SetMantExp(new(big.Float).SetUint64(high), 64))
			}
		}
		f.finish()
		require.Equal(t, wantBad, bad)
		for row := range exact {
			require.Equal(t, seen[row], f.visible(int32(row)), "round %d, row %d", round, row)
			v, _ := exact[row].Float64()
			require.Equal(t, v, f.values[row], "round %d, row %d", round, row)
			if round%2 == 1 {
				require.Equal(t, v, want[row].Value())
			}
		}
	}
}
