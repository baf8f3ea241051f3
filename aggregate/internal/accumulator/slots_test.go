package accumulator

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
	def := shmstore.Family{Name: "g", Type: shmstore.GaugeType, Mode: shmstore.All}
	rank := func(ready, thisBoot bool, since int64) origin.Origin {
		return origin.Origin{Ready: ready, Since: since, Info: shmstore.Info{Slot: 3, ThisBoot: thisBoot}}
	}
	words := func(v float64, m origin.Origin) []uint64 {
		p := SlotGauges{}
		p.add(3, SlotGauge{Value: v, Rank: m})
		return p.AppendWords(nil)
	}
	assert.Equal(t, []uint64{3, math.Float64bits(1.5), 77, 0}, words(1.5, rank(false, false, 77)))
	assert.Equal(t, []uint64{3, math.Float64bits(1.5), 77, 1}, words(1.5, rank(true, false, 77)))
	assert.Equal(t, []uint64{3, math.Float64bits(1.5), 77, 2}, words(1.5, rank(false, true, 77)))
	assert.Equal(t, []uint64{3, math.Float64bits(1.5), 77, 3}, words(1.5, rank(true, true, 77)))

	for _, ready := range []bool{false, true} {
		for _, thisBoot := range []bool{false, true} {
			w := words(1.5, rank(ready, thisBoot, 77))
			p, err := FromWords(&def, w, true)
			require.NoError(t, err)
			assert.Equal(t, SlotGauge{Value: 1.5, Rank: rank(ready, thisBoot, 77)}, (*p.(*SlotGauges))[3], "the same boot")
			after, err := FromWords(&def, w, false)
			require.NoError(t, err)
			want := rank(ready, false, 77)
			if thisBoot {
				want.Since = 0
			}
			assert.Equal(t, SlotGauge{Value: 1.5, Rank: want}, (*after.(*SlotGauges))[3], "another boot")

			fresh := SlotGauge{Value: 2, Rank: rank(ready, true, 1)}
			after.(*SlotGauges).add(3, fresh)
			assert.Equal(t, fresh, (*after.(*SlotGauges))[3], "a process of this boot ranks higher than any of one before")
		}
	}

	p := SlotGauges{}
	for i, m := range []origin.Origin{rank(false, true, 9), rank(true, true, 5), rank(false, true, 10), rank(true, true, 4)} {
		p.add(3, SlotGauge{Value: float64(i), Rank: m})
	}
	assert.Equal(t, 1.0, p[3].Value, "who said READY, then the newer")
}
