package quantile

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// BucketID identifies what a count of a sketch counts: a bucket of an octave, or one of the three below.
type BucketID uint32

// The buckets of numbers that are in no octave.
const (
	ZeroBucket  BucketID = Octaves<<8 + iota // zero, and what is nearer to it than 2^-64
	BelowBucket                              // -2^64 and less
	AboveBucket                              // 2^64 and more
)

// InOctave returns the name of a bucket of an octave.
func InOctave(octave uint64, bucket int) BucketID { return BucketID(octave<<8 | uint64(bucket)) }

// Sketch counts numbers by their buckets, and tells their quantiles. Counts of several sketches, of different resolutions too,
// add up to the sketch of all their numbers. The zero value is empty. It is for one goroutine at a time.
type Sketch struct {
	parts              []sketchPart
	zero, below, above uint64
	scratch            []bucketCount
}

// sketchPart is the counts of one resolution.
type sketchPart struct {
	resolution *Resolution
	octaves    []octaveCounts
	last       int // where Add found an octave the last time
}

type octaveCounts struct {
	octave uint8
	counts []uint64
}

type bucketCount struct {
	value float64
	count uint64
}

// Add adds a count. What names no bucket of the resolution is left out.
func (s *Sketch) Add(r *Resolution, id BucketID, count uint64) {
	switch {
	case id == ZeroBucket:
		s.zero = addCount(s.zero, count)
	case id == BelowBucket:
		s.below = addCount(s.below, count)
	case id == AboveBucket:
		s.above = addCount(s.above, count)
	case id < ZeroBucket && int(id&0xff) < r.n:
		c := &s.part(r).octave(uint8(id >> 8)).counts[id&0xff]
		*c = addCount(*c, count)
	}
}

// addCount stops at the largest number: counts near it are made up.
func addCount(a, b uint64) uint64 {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return sum
}

func (s *Sketch) part(r *Resolution) *sketchPart {
	for i := range s.parts {
		if s.parts[i].resolution.n == r.n {
			return &s.parts[i]
		}
	}
	s.parts = append(s.parts, sketchPart{resolution: r})
	return &s.parts[len(s.parts)-1]
}

func (p *sketchPart) octave(octave uint8) *octaveCounts {
	if p.last < len(p.octaves) && p.octaves[p.last].octave == octave {
		return &p.octaves[p.last]
	}
	i, found := slices.BinarySearchFunc(p.octaves, octave, func(o octaveCounts, octave uint8) int {
		return cmp.Compare(o.octave, octave)
	})
	if !found {
		p.octaves = slices.Insert(p.octaves, i, octaveCounts{octave, make([]uint64, p.resolution.n)})
	}
	p.last = i
	return &p.octaves[i]
}

// Reset empties the sketch and keeps its memory.
func (s *Sketch) Reset() {
	s.zero, s.below, s.above = 0, 0, 0
	for i := range s.parts {
		for _, o := range s.parts[i].octaves {
			clear(o.counts)
		}
	}
}

// AppendQuantiles appends the q-quantile for each q in ascending order. That is the number of rank ceil(q·n), the first
// having rank 1, among the n that were counted, in ascending order: the least one that at least q·n of them do not exceed.
// What is appended is further from it than the resolution's Error, relative to it, for no number of the octaves that are
// counted. It is the least and the greatest number for a q of 0 and less and of 1 and more, and NaN when nothing was
// counted, or for a q of NaN.
func (s *Sketch) AppendQuantiles(to []float64, qs []float64) []float64 {
	counts := s.ascending()
	var n uint64
	for _, c := range counts {
		n = addCount(n, c.count)
	}
	i, passed := 0, uint64(0)
	for _, q := range qs {
		if n == 0 || math.IsNaN(q) {
			to = append(to, math.NaN())
			continue
		}
		rank := n
		if r := math.Ceil(q * float64(n)); r < float64(n) {
			rank = uint64(max(r, 1))
		}
		for i < len(counts)-1 && addCount(passed, counts[i].count) < rank {
			passed = addCount(passed, counts[i].count)
			i++
		}
		to = append(to, counts[i].value)
	}
	return to
}

// ascending returns all counts that are not zero, by the value that stands for them.
func (s *Sketch) ascending() []bucketCount {
	all := s.scratch[:0]
	add := func(v float64, n uint64) {
		if n > 0 {
			all = append(all, bucketCount{v, n})
		}
	}
	add(math.Inf(-1), s.below)
	for _, p := range s.parts {
		for _, o := range slices.Backward(p.octaves) {
			if o.octave < octavesOfSign {
				break
			}
			for i, n := range slices.Backward(o.counts) {
				add(p.resolution.value(o.octave, i), n)
			}
		}
	}
	add(0, s.zero)
	for _, p := range s.parts {
		for _, o := range p.octaves {
			if o.octave >= octavesOfSign {
				break
			}
			for i, n := range o.counts {
				add(p.resolution.value(o.octave, i), n)
			}
		}
	}
	add(math.Inf(1), s.above)
	if len(s.parts) > 1 {
		slices.SortFunc(all, func(a, b bucketCount) int { return cmp.Compare(a.value, b.value) })
	}
	s.scratch = all
	return all
}
