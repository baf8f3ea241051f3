// Package boundindex finds the first bound of a histogram that is not below a value.
package boundindex

import "math"

// Index says where among a histogram's bounds to begin to look for a value, by the value's binade, which is all numbers
// from one power of two to the next. Bounds are mostly as far apart as that or further, so that the search is over at
// once; one from the first bound on ends at a place that the processor cannot foresee, which costs more than all else in
// Observe.
type Index struct {
	low   uint64   // the sign and the exponent, as a float64 has them, of the first
	first []uint16 // by binade: how many bounds are below it
}

// New returns where to begin among bounds, which are sorted. It knows the binades from the first positive bound's to
// the last one's, but not that of zero and the numbers next to it.
func New(bounds []float64) (b Index) {
	n := 0
	for n < len(bounds) && bounds[n] < minNormal {
		n++
	}
	if n == len(bounds) {
		return b
	}
	b.low = math.Float64bits(bounds[n]) >> exponentShift
	for e := b.low; e <= math.Float64bits(bounds[len(bounds)-1])>>exponentShift; e++ {
		for math.Float64bits(bounds[n])>>exponentShift < e {
			n++
		}
		b.first = append(b.first, uint16(n))
	}
	return b
}

// minNormal is the smallest number of the first binade that has only numbers of its own.
const minNormal = 0x1p-1022

// exponentShift leaves of a float64 its sign and its exponent.
const exponentShift = 52

// Begin returns how many bounds are certainly below v; 0 for a value that is negative, NaN, or in no binade with bounds.
func (b *Index) Begin(v float64) int {
	if e := math.Float64bits(v)>>exponentShift - b.low; e < uint64(len(b.first)) {
		return int(b.first[e])
	}
	return 0
}

// First returns the index of the first bound that is not less than v, and the number of bounds where there is none, as
// for a NaN. The bounds before from are known to be less.
func First(bounds []float64, from int, v float64) int {
	for ; from < len(bounds); from++ {
		if v <= bounds[from] {
			break
		}
	}
	return from
}
