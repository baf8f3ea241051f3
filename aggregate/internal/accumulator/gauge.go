package accumulator

import (
	"math"

	"github.com/onescrape/onescrape/aggregate/internal/exactsum"
	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
)

// Gauge merges the gauges, or untyped metrics, of one series by their mode. The zero Gauge with a Mode is empty.
type Gauge struct {
	value    float64
	sum      exactsum.Sum
	n        int // that were set
	at       int64
	thisBoot bool
	Mode     shmstore.GaugeMode
}

// GaugeOf returns a gauge of mode all whose value is v.
func GaugeOf(v float64) *Gauge { return &Gauge{Mode: shmstore.All, value: v, n: 1} }

// AddCells adds the cells of a process's gauge, if it was set.
func (g *Gauge) AddCells(def *shmstore.Family, from *origin.Origin, cells []uint64) bool {
	if v, at, set := gaugeCells(def, from, cells); set {
		g.Add(v, from.Info.ThisBoot, at)
	}
	return true
}

// Add adds a value that was set, at a time that counts for mostrecent only. Of two that were set at the same time the one
// that is added later counts. In mode all there is only one value.
func (g *Gauge) Add(v float64, thisBoot bool, at int64) {
	first := g.n == 0
	g.n++
	switch g.Mode {
	case shmstore.Sum, shmstore.Avg:
		g.sum.Add(v)
	case shmstore.Min:
		if first || math.IsNaN(g.value) {
			g.value = v
		} else if !math.IsNaN(v) {
			g.value = math.Min(g.value, v)
		}
	case shmstore.Max:
		if first || math.IsNaN(g.value) {
			g.value = v
		} else if !math.IsNaN(v) {
			g.value = math.Max(g.value, v)
		}
	case shmstore.MostRecent:
		if c := origin.CompareBool(thisBoot, g.thisBoot); first || c > 0 || c == 0 && at >= g.at {
			g.value, g.thisBoot, g.at = v, thisBoot, at
		}
	case shmstore.All:
		g.value = v
	}
}

// AddGauge adds the gauge of an archive. If that has another mode, its merged value counts as one value, set when the archive
// became ready, or at its own time if it has one.
func (g *Gauge) AddGauge(other *Gauge, from *origin.Origin) {
	switch {
	case other.n == 0:
	case other.Mode != g.Mode:
		at, thisBoot := other.at, other.thisBoot
		if other.Mode != shmstore.MostRecent {
			at, thisBoot = from.Since, from.Info.ThisBoot
		}
		g.Add(other.Value(), thisBoot, at)
	case g.Mode == shmstore.Sum, g.Mode == shmstore.Avg:
		g.n += other.n
		g.sum.AddSum(&other.sum)
	default:
		n := g.n + other.n
		g.Add(other.value, other.thisBoot, other.at)
		g.n = n
	}
}

// AppendWords appends how many set the gauge; and, in the modes sum and avg, the sum; in the modes min and max the value; in
// mode mostrecent the value, its time as origin.Time has it, and 1 if that is of the archive's boot.
func (g *Gauge) AppendWords(w []uint64) []uint64 {
	w = append(w, uint64(g.n))
	switch g.Mode {
	case shmstore.Sum, shmstore.Avg:
		return g.sum.AppendWords(w)
	case shmstore.MostRecent:
		return append(w, math.Float64bits(g.value), uint64(g.at), flag(g.thisBoot))
	default:
		return append(w, math.Float64bits(g.value))
	}
}

func (g *Gauge) read(r *wordReader, thisBoot bool) {
	g.n = int(r.next())
	r.bad = r.bad || g.n < 0
	switch g.Mode {
	case shmstore.Sum, shmstore.Avg:
		g.sum = r.sum()
	case shmstore.MostRecent:
		g.value, g.at = math.Float64frombits(r.next()), int64(r.next())
		if g.thisBoot = r.next() != 0; g.thisBoot && !thisBoot {
			g.thisBoot, g.at = false, 0
		}
	default:
		g.value = math.Float64frombits(r.next())
	}
}

// Value returns the merged value.
func (g *Gauge) Value() float64 {
	switch {
	case g.Mode == shmstore.Sum:
		return g.sum.Value()
	case g.Mode == shmstore.Avg && g.n > 0:
		return g.sum.Value() / float64(g.n)
	default:
		return g.value
	}
}

// Reset empties the gauge.
func (g *Gauge) Reset() {
	g.sum.Reset()
	*g = Gauge{sum: g.sum, Mode: g.Mode}
}

// Unreadable stands for the time of a timed gauge that was overwritten again and again while it was read. It is left out
// then: others, or the next scrape, will have it.
const Unreadable = math.MaxUint64

// LoadTimed returns a timed gauge as the word of a plain one, and its time.
func LoadTimed(cells []uint64) (word, at uint64) {
	for range 8 {
		v, at, set, ok := shmstore.LoadTimed(cells)
		if !ok {
			continue
		}
		if !set {
			return 0, 0
		}
		return shmstore.GaugeWord(v), at
	}
	return 0, Unreadable
}

// gaugeCells reads the cells of a gauge of a dead process.
func gaugeCells(def *shmstore.Family, from *origin.Origin, cells []uint64) (v float64, at int64, set bool) {
	if def.Words() == shmstore.TimedWords {
		word, mono := LoadTimed(cells)
		v, set = shmstore.GaugeValue(word)
		return v, from.Time(mono), set
	}
	v, set = shmstore.GaugeValue(cells[0])
	return v, from.Since, set
}
