package aggregate

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
)

// Of two dead processes of a slot the archive has the gauges of the one that ranks higher, by bits that FORMAT.md names.
// After a restart of the system a time of Monotonic says nothing, and any process of the new boot ranks higher.
func TestRankOfAnArchivedSlot(t *testing.T) {
	def := gaugeFamily("g", shmstore.All)
	rank := func(ready, thisBoot bool, since int64) origin.Origin {
		return origin.Origin{Ready: ready, Since: since, Info: shmstore.Info{Slot: 3, ThisBoot: thisBoot}}
	}
	words := func(v float64, m origin.Origin) []uint64 {
		p := newPart(&def)
		p.addSlot(3, slotPart{value: v, rank: m})
		return p.words(&def)
	}
	assert.Equal(t, []uint64{3, math.Float64bits(1.5), 77, 0}, words(1.5, rank(false, false, 77)))
	assert.Equal(t, []uint64{3, math.Float64bits(1.5), 77, 1}, words(1.5, rank(true, false, 77)))
	assert.Equal(t, []uint64{3, math.Float64bits(1.5), 77, 2}, words(1.5, rank(false, true, 77)))
	assert.Equal(t, []uint64{3, math.Float64bits(1.5), 77, 3}, words(1.5, rank(true, true, 77)))

	for _, ready := range []bool{false, true} {
		for _, thisBoot := range []bool{false, true} {
			w := words(1.5, rank(ready, thisBoot, 77))
			p, err := partOf(&def, w, true)
			require.NoError(t, err)
			assert.Equal(t, slotPart{value: 1.5, rank: rank(ready, thisBoot, 77)}, p.slots[3], "the same boot")
			after, err := partOf(&def, w, false)
			require.NoError(t, err)
			want := rank(ready, false, 77)
			if thisBoot {
				want.Since = 0
			}
			assert.Equal(t, slotPart{value: 1.5, rank: want}, after.slots[3], "another boot")

			fresh := slotPart{value: 2, rank: rank(ready, true, 1)}
			after.addSlot(3, fresh)
			assert.Equal(t, fresh, after.slots[3], "a process of this boot ranks higher than any of one before")
		}
	}

	p := newPart(&def)
	for i, m := range []origin.Origin{rank(false, true, 9), rank(true, true, 5), rank(false, true, 10), rank(true, true, 4)} {
		p.addSlot(3, slotPart{value: float64(i), rank: m})
	}
	assert.Equal(t, 1.0, p.slots[3].value, "who said READY, then the newer")
}

// A count that no process can have counted up to is no part of the archive, as it is no part of a scrape.
func TestFoldOfACountThatNoProcessCanHave(t *testing.T) {
	for _, n := range []uint64{1 << 63, math.MaxUint64} {
		dir := newDir(t)
		s := openStore(t, dir, Options{})
		histogram, summary := histogramFamily("h", []float64{1}, "l"), summaryFamily("s", "l")
		leave(t, dir, 0,
			action{Do: "observe", Family: histogram, Values: []string{"x"}, V: .5},
			action{Do: "observe", Family: summary, Values: []string{"x"}, V: .5}, ready)
		odd := math.Float64frombits(n)
		leave(t, dir, 1,
			action{Do: "observe", Family: histogram, Values: []string{"x"}, V: .5},
			action{Do: "word", Family: histogram, Values: []string{"x"}, Word: shmstore.HistogramBuckets, V: odd},
			action{Do: "observe", Family: summary, Values: []string{"x"}, V: .5},
			action{Do: "word", Family: summary, Values: []string{"x"}, Word: shmstore.SummaryCount, V: odd}, ready)
		before := text(t, s)
		require.Contains(t, before, "s_count{l=\"x\"} 1\n")
		require.Contains(t, before, "h_count{l=\"x\"} 1\n")
		mustFold(t, s)
		assert.Equal(t, before, text(t, s))
	}
}
