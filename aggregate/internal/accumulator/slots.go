package accumulator

import (
	"math"

	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
)

// SlotGauges has the gauges of one series of mode all, by slot.
type SlotGauges map[int]SlotGauge

// SlotGauge is the value of a gauge of mode all in one slot.
type SlotGauge struct {
	Value float64
	Rank  origin.Origin // of the process that had it
}

// Bits of the rank of a slot's value in an archive.
const (
	RankReady    = 1 << 0
	RankThisBoot = 1 << 1
)

// AddCells adds the cells of a process's gauge, set or not.
func (s *SlotGauges) AddCells(def *shmstore.Family, from *origin.Origin, cells []uint64) bool {
	v, _, _ := gaugeCells(def, from, cells)
	s.add(from.Info.Slot, SlotGauge{Value: v, Rank: *from})
	return true
}

// add keeps, of two processes that had a slot, the value of the one that ranks higher.
func (s *SlotGauges) add(slot int, g SlotGauge) {
	if old, ok := (*s)[slot]; !ok || g.Rank.Compare(&old.Rank) > 0 {
		(*s)[slot] = g
	}
}

// AppendWords appends, for each slot, its number; the value; and the rank of the process that had it, as the time since when
// it served and bits for "it said READY" and "of the archive's boot".
func (s *SlotGauges) AppendWords(w []uint64) []uint64 {
	for slot, g := range *s {
		w = append(w, uint64(slot), math.Float64bits(g.Value), uint64(g.Rank.Since),
			flag(g.Rank.Ready)*RankReady|flag(g.Rank.Info.ThisBoot)*RankThisBoot)
	}
	return w
}

func (s *SlotGauges) read(r *wordReader, thisBoot bool) {
	for len(r.w) > 0 {
		slot, value, since, bits := r.next(), r.next(), r.next(), r.next()
		g := SlotGauge{Value: math.Float64frombits(value)}
		g.Rank.Info.Slot = int(int64(slot))
		g.Rank.Since = int64(since)
		g.Rank.Ready = bits&RankReady != 0
		if g.Rank.Info.ThisBoot = bits&RankThisBoot != 0; g.Rank.Info.ThisBoot && !thisBoot {
			g.Rank.Info.ThisBoot, g.Rank.Since = false, 0
		}
		s.add(g.Rank.Info.Slot, g)
	}
}
