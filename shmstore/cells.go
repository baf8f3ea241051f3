package shmstore

import (
	"math"
	"sync/atomic"
)

// What the cells of a series hold, by type. A cell is a word of 8 bytes, written and read with sync/atomic only. A new
// series' cells are zero.
const (
	// A counter is the sum of two cells: whole numbers are added to the first as an integer, fractions to the second, the
	// bits of a float64.
	CounterInteger = 0
	CounterFloat   = 1
	CounterWords   = 2

	// A gauge is one cell, see GaugeWord.
	GaugeWords = 1

	// A gauge of mode MostRecent or LiveMostRecent is a selector and two pairs of value and time, see StoreTimed.
	TimedWords = 5

	// A classic histogram is the sum of the observations, the bits of a float64, and the count of each bucket: not
	// cumulative, in the order of the bounds, the one up to +Inf last. Where there are native buckets, they follow, and have
	// every observation: the classic ones have those again that are not above the last bound, and the one up to +Inf those
	// that no native bucket has, the NaNs. See native.go.
	HistogramSum     = 0
	HistogramBuckets = 1

	// A summary is a count and a sum, the bits of a float64.
	SummaryCount = 0
	SummarySum   = 1
	SummaryWords = 2
)

// unset is the float64 that a gauge's cell stands for before the first Set: a NaN with a payload that no arithmetic
// makes. Words are kept xor-ed with it, so that the zero word of a new cell means unset.
const unset = 0x7ff8_6f6e_6573_6372

// GaugeWord returns the word that stands for v in a gauge's cell.
func GaugeWord(v float64) uint64 {
	b := math.Float64bits(v)
	if b == unset {
		b = math.Float64bits(math.NaN())
	}
	return b ^ unset
}

// GaugeValue returns what a word of a gauge's cell stands for; 0, false when the gauge was never set.
func GaugeValue(word uint64) (v float64, set bool) {
	if word == 0 {
		return 0, false
	}
	return math.Float64frombits(word ^ unset), true
}

// StoreTimed writes a value and the time at which it was set, in nanoseconds of Monotonic, to the cells of a timed gauge.
// A reader never sees one without the other, whenever the writer is killed. Only one goroutine at a time may store.
func StoreTimed(cells []uint64, v float64, at uint64) {
	_ = cells[TimedWords-1]
	next := atomic.LoadUint64(&cells[0]) + 1
	i := 1 + 2*(next&1)
	atomic.StoreUint64(&cells[i], math.Float64bits(v))
	atomic.StoreUint64(&cells[i+1], at)
	atomic.StoreUint64(&cells[0], next)
}

// LoadTimed reads what StoreTimed wrote. set is false when nothing was stored yet, and also when the writer stored so
// often meanwhile that no whole pair could be read in a few tries: then ok is false.
func LoadTimed(cells []uint64) (v float64, at uint64, set, ok bool) {
	_ = cells[TimedWords-1]
	for range 8 {
		sel := atomic.LoadUint64(&cells[0])
		if sel == 0 {
			return 0, 0, false, true
		}
		i := 1 + 2*(sel&1)
		v = math.Float64frombits(atomic.LoadUint64(&cells[i]))
		at = atomic.LoadUint64(&cells[i+1])
		if atomic.LoadUint64(&cells[0]) == sel {
			return v, at, true, true
		}
	}
	return 0, 0, false, false
}
