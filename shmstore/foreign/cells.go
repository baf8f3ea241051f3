package foreign

import (
	"encoding/binary"
	"math"

	"github.com/onescrape/onescrape/shmstore"
)

// fill makes the cells of all series of what the file holds now.
func (l *layout) fill(r *Reader) {
	for i := range l.sources {
		s := &l.sources[i]
		switch s.kind {
		case counterSource:
			fillCounter(l.words[s.cell:s.cell+shmstore.CounterWords], r.double(s.at))
		case gaugeSource:
			l.words[s.cell] = shmstore.GaugeWord(r.double(s.at))
		case stampedSource:
			fillTimed(l.words[s.cell:s.cell+shmstore.TimedWords], r.double(s.at), r.stamp(s.at))
		case newestSource:
			fillTimed(l.words[s.cell:s.cell+shmstore.TimedWords], r.double(s.at), r.info.StartedMono)
		default:
			l.composites[s.composite].fill(r, l.words[s.cell:])
		}
	}
}

// double returns the float64 at an offset, which a single load reads, as a single store has written it.
func (r *Reader) double(at uint32) float64 {
	return math.Float64frombits(binary.NativeEndian.Uint64(r.memory[at:]))
}

// fillCounter writes a whole number where whole numbers are added as such, and anything else as a fraction.
func fillCounter(cells []uint64, v float64) {
	if n, whole := wholeNumber(v); whole {
		cells[shmstore.CounterInteger], cells[shmstore.CounterFloat] = n, 0
		return
	}
	cells[shmstore.CounterInteger], cells[shmstore.CounterFloat] = 0, math.Float64bits(v)
}

func wholeNumber(v float64) (n uint64, whole bool) {
	if !(v >= 0 && v < 1<<63) {
		return 0, false
	}
	n = uint64(v)
	return n, float64(n) == v
}

// noCount stands for the count of a float64 that is none. No reader lets it pass.
const noCount = math.MaxUint64

func count(v float64) uint64 {
	if n, whole := wholeNumber(v); whole {
		return n
	}
	return noCount
}

func fillTimed(cells []uint64, v float64, at uint64) {
	clear(cells)
	shmstore.StoreTimed(cells, v, at)
}

// stamp returns when the value at an offset was set, such that package aggregate's time of the cell is what the file
// says: it adds the cell's to the time when the file was made, where that is of the wall clock.
func (r *Reader) stamp(at uint32) uint64 {
	if r.doubles < 2 {
		return r.info.StartedMono
	}
	ns := r.double(at+doubleSize) * 1e9
	if !(ns > 0 && ns < 1<<62) {
		ns = 0
	}
	if r.info.ThisBoot {
		return uint64(ns)
	}
	return uint64(int64(ns) - r.info.Started.UnixNano())
}

// wake shows the series that were set for the first time. It reads memory.
func (l *layout) wake(r *Reader) {
	unset := l.unset[:0]
	for _, i := range l.unset {
		if r.lib.HideUnset && r.doubles == 2 && !(r.double(l.sources[i].at+doubleSize) > 0) {
			unset = append(unset, i)
			continue
		}
		l.series[i].Free = false
		if int(i) < l.laid {
			l.changes++
		}
	}
	l.unset = unset
}

func (c *composite) fill(r *Reader, cells []uint64) {
	sum := uint64(0)
	if c.sum != 0 {
		sum = math.Float64bits(r.double(c.sum))
	}
	if c.def.Type == shmstore.SummaryType {
		cells[shmstore.SummarySum], cells[shmstore.SummaryCount] = sum, 0
		if c.count != 0 {
			cells[shmstore.SummaryCount] = count(r.double(c.count))
		}
		return
	}
	cells[shmstore.HistogramSum] = sum
	cells = cells[shmstore.HistogramBuckets:]
	var below uint64
	for i, at := range c.places {
		switch {
		case at == 0:
			cells[i] = 0
		case r.lib.Cumulative:
			// Smaller bounds are read first and the process adds to +Inf first, then upwards: what it is about to add
			// is in the last bucket.
			n := count(r.double(at))
			if n == noCount {
				cells[i] = n
				continue
			}
			n = max(n, below)
			cells[i], below = n-below, n
		default:
			cells[i] = count(r.double(at))
		}
	}
}

func isInf(v float64) bool { return math.IsInf(v, 1) }
