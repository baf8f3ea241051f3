package worker

import "math"

// boundIndex says where among a histogram's bounds to begin to look for a value, by the value's binade, which is all numbers
// from one power of two to the next. Bounds are mostly as far apart as that or further, so that the search is over at
// once; one from the first bound on ends at a place that the processor cannot foresee, which costs more than all else in
// Observe.
type boundIndex struct {
	low   uint64   // the sign and the exponent, as a float64 has them, of the first
	first []uint16 // by binade: how many bounds are below it
}

// newBoundIndex returns where to begin among bounds, which are sorted. It knows the binades from the first positive bound's to
// the last one's, but not that of zero and the numbers next to it.
func newBoundIndex(bounds []float64) (b boundIndex) {
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

// begin returns how many bounds are certainly below v; 0 for a value that is negative, NaN, or in no binade with bounds.
func (b *boundIndex) begin(v float64) int {
	if e := math.Float64bits(v)>>exponentShift - b.low; e < uint64(len(b.first)) {
		return int(b.first[e])
	}
	return 0
}
