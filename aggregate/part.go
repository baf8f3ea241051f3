package aggregate

import (
	"fmt"
	"math"

	"github.com/onescrape/onescrape/aggregate/internal/exactsum"
	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/nativehist"
)

// part is what dead processes have left of one series: the merge of their cells, before any rounding, so that it does not
// matter when and by whom it was folded. An archive holds it as words:
//
//   - counter: the whole numbers' sum, low word first, in 128 bits; the fractions' sum
//   - histogram: the buckets' counts, the one up to +Inf last; the sum
//   - with native buckets: the counts but that up to +Inf; the sum; and, see appendNative, one more than the number of the
//     words of buckets, how many NaNs, by how much the schema is above the least, the zero threshold, 1 if thresholds
//     differed, and for each bucket its code and count; 0 for no native part
//   - summary: the count; the sum
//   - gauge and untyped of mode sum and avg: how many set it; the sum
//   - of mode min and max: how many set it; the value
//   - of mode mostrecent: how many set it; the value; its time, see origin.Time; 1 when that is of the archive's boot
//   - of mode all: for each slot its number; the value; the rank of the process that had it, as the time since when it
//     served and bits for "it said READY" and "of the archive's boot"
//
// A sum is the number of words that follow: none for zero; two when two float64s hold it; or those of a wideSum. Counts
// and numbers of slots are two's complement, values the bits of a float64.
type part struct {
	counter counter
	counts  []uint64
	native  *nativehist.Counts // of a histogram with native buckets, whose counts then lack the bucket up to +Inf
	sum     exactsum.Sum
	gauge   gauge
	slots   map[int]slotPart
}

// slotPart is the value of an all gauge in one slot.
type slotPart struct {
	value float64
	rank  origin.Origin // of the process that had it
}

// newPart returns the part of a family's series that nobody has written to.
func newPart(def *shmstore.Family) *part {
	p := &part{}
	switch {
	case def.Native != nil:
		p.counts, p.native = make([]uint64, len(def.Bounds)), &nativehist.Counts{}
	case def.Type == shmstore.HistogramType:
		p.counts = make([]uint64, len(def.Bounds)+1)
	case def.Type == shmstore.SummaryType:
		p.counts = make([]uint64, 1)
	case def.Mode == shmstore.All:
		p.slots = map[int]slotPart{}
	}
	return p
}

// addCells adds the cells of a series of a dead process. It returns false, and adds nothing, when one of them cannot be.
func (p *part) addCells(def *shmstore.Family, m *origin.Origin, cells []uint64) bool {
	switch def.Type {
	case shmstore.CounterType:
		return p.counter.addCells(cells)
	case shmstore.HistogramType:
		if def.Native != nil {
			return p.addNativeCells(def, cells)
		}
		return p.addObservations(cells[shmstore.HistogramSum], cells[shmstore.HistogramBuckets:])
	case shmstore.SummaryType:
		return p.addObservations(cells[shmstore.SummarySum], cells[shmstore.SummaryCount:][:1])
	default:
		v, at, set := gaugeCells(def, m, cells)
		if def.Mode == shmstore.All {
			p.addSlot(m.Info.Slot, slotPart{value: v, rank: *m})
		} else if set {
			p.gauge.add(def.Mode, v, m.Info.ThisBoot, at)
		}
		return true
	}
}

// addObservations adds the sum of a histogram or summary and its counts, unless one of these cannot be.
func (p *part) addObservations(sum uint64, counts []uint64) bool {
	if !possible(counts) {
		return false
	}
	p.sum.Add(math.Float64frombits(sum))
	p.addCounts(counts)
	return true
}

func (p *part) addCounts(counts []uint64) {
	for i, n := range counts {
		p.counts[i] = addSaturated(p.counts[i], n)
	}
}

// gaugeCells reads the cells of a gauge of a process that writes no more, or a copy of them.
func gaugeCells(def *shmstore.Family, m *origin.Origin, cells []uint64) (v float64, at int64, set bool) {
	if def.Words() == shmstore.TimedWords {
		word, mono := loadTimed(cells)
		v, set = shmstore.GaugeValue(word)
		return v, m.Time(mono), set
	}
	v, set = shmstore.GaugeValue(cells[0])
	return v, m.Since, set
}

// addSlot keeps, of two processes that had a slot, the value of the one that ranks higher.
func (p *part) addSlot(slot int, s slotPart) {
	if old, ok := p.slots[slot]; !ok || s.rank.Compare(&old.rank) > 0 {
		p.slots[slot] = s
	}
}

// Bits of the rank of a slot's value.
const (
	rankReady    = 1 << 0
	rankThisBoot = 1 << 1
)

// words returns what an archive holds of a part.
func (p *part) words(def *shmstore.Family) []uint64 {
	var w []uint64
	switch {
	case def.Type == shmstore.CounterType:
		w = append(w, p.counter.low, p.counter.high)
		w = p.counter.fraction.AppendWords(w)
	case def.Type == shmstore.HistogramType, def.Type == shmstore.SummaryType:
		w = append(w, p.counts...)
		w = p.sum.AppendWords(w)
		if p.native != nil {
			w = appendNative(w, p.native)
		}
	case def.Mode == shmstore.All:
		for slot, s := range p.slots {
			bits := uint64(0)
			if s.rank.Ready {
				bits |= rankReady
			}
			if s.rank.Info.ThisBoot {
				bits |= rankThisBoot
			}
			w = append(w, uint64(slot), math.Float64bits(s.value), uint64(s.rank.Since), bits)
		}
	default:
		w = append(w, uint64(p.gauge.n))
		switch def.Mode {
		case shmstore.Sum, shmstore.Avg:
			w = p.gauge.sum.AppendWords(w)
		case shmstore.MostRecent:
			thisBoot := uint64(0)
			if p.gauge.thisBoot {
				thisBoot = 1
			}
			w = append(w, math.Float64bits(p.gauge.value), uint64(p.gauge.at), thisBoot)
		default:
			w = append(w, math.Float64bits(p.gauge.value))
		}
	}
	return w
}

// partOf is the inverse of words. thisBoot tells whether the archive was written since the kernel started; times of an
// earlier boot are older than any of this one.
func partOf(def *shmstore.Family, w []uint64, thisBoot bool) (*part, error) {
	p := newPart(def)
	r := wordReader{w: w}
	switch {
	case def.Type == shmstore.CounterType:
		p.counter.low, p.counter.high = r.next(), r.next()
		p.counter.fraction = r.sum()
		r.bad = r.bad || !p.counter.fraction.Finite() || p.counter.fraction.Value() < 0
	case def.Type == shmstore.HistogramType, def.Type == shmstore.SummaryType:
		for i := range p.counts {
			p.counts[i] = r.next()
		}
		p.sum = r.sum()
		if p.native != nil {
			p.native = r.native()
		}
	case def.Mode == shmstore.All:
		for len(r.w) > 0 {
			slot, value, since, bits := r.next(), r.next(), r.next(), r.next()
			s := slotPart{value: math.Float64frombits(value)}
			s.rank.Info.Slot = int(int64(slot))
			s.rank.Since = int64(since)
			s.rank.Ready = bits&rankReady != 0
			if s.rank.Info.ThisBoot = bits&rankThisBoot != 0; s.rank.Info.ThisBoot && !thisBoot {
				s.rank.Info.ThisBoot, s.rank.Since = false, 0
			}
			p.addSlot(s.rank.Info.Slot, s)
		}
	default:
		p.gauge.n = int(r.next())
		switch def.Mode {
		case shmstore.Sum, shmstore.Avg:
			p.gauge.sum = r.sum()
		case shmstore.MostRecent:
			p.gauge.value, p.gauge.at = math.Float64frombits(r.next()), int64(r.next())
			if p.gauge.thisBoot = r.next() != 0; p.gauge.thisBoot && !thisBoot {
				p.gauge.thisBoot, p.gauge.at = false, 0
			}
		default:
			p.gauge.value = math.Float64frombits(r.next())
		}
	}
	if r.bad || len(r.w) > 0 || p.gauge.n < 0 {
		return nil, fmt.Errorf("%w: %d words of a %s %s", shmstore.ErrCorrupt, len(w), def.Mode, def.Type)
	}
	return p, nil
}

// wordReader takes words off a list; when they do not suffice it is bad and gives zeros.
type wordReader struct {
	w   []uint64
	bad bool
}

func (r *wordReader) next() uint64 {
	if len(r.w) == 0 {
		r.bad = true
		return 0
	}
	v := r.w[0]
	r.w = r.w[1:]
	return v
}

func (r *wordReader) sum() (s exactsum.Sum) {
	n := r.next()
	if n > uint64(len(r.w)) || !s.FromWords(r.w[:n]) {
		r.bad = true
		return exactsum.Sum{}
	}
	r.w = r.w[n:]
	return s
}
