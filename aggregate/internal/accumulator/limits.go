package accumulator

import (
	"math"
	"math/bits"
)

// A series of a process counts whole or not at all. Without a cell that no process can have written, the others would say
// less than the process has counted, or a sum would stand beside a count of other observations.

// TooLarge is where whole numbers begin that no process can have counted up to.
const TooLarge = 1 << 63

// Possible reports whether every count is one that a process can have counted up to.
func Possible(counts []uint64) bool {
	var all uint64
	for _, n := range counts {
		all |= n
	}
	return all < TooLarge
}

// possibleFraction reports whether a process can have written a counter's second cell: a number from 0 on.
func possibleFraction(cell uint64) bool {
	fraction := math.Float64frombits(cell)
	return fraction >= 0 && fraction <= math.MaxFloat64
}

// AddSaturated adds and stops at the largest number. Counts near it are made up, but stay monotonic.
func AddSaturated(a, b uint64) uint64 {
	s, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return s
}

// addCounts adds counts of the same buckets.
func addCounts(to, counts []uint64) {
	for i, n := range counts {
		to[i] = AddSaturated(to[i], n)
	}
}
