package shmstore

import (
	"errors"
	"sync"

	"github.com/onescrape/onescrape/shmstore/internal/mapped"
)

// arena is memory for the label values of many series that a reader finds at once: a few large pieces instead of two for
// each series. The zero arena gives each series memory of its own, which is freed with the series.
type arena struct {
	left   int // series that are yet to come
	bytes  []byte
	values []string
}

// The largest size of a piece, unless one series needs more.
const (
	arenaBytes   = 32 << 10
	arenaStrings = 2 << 10
)

// text returns b as a string.
func (s *arena) text(b []byte) string {
	if s.left == 0 {
		return string(b)
	}
	if len(b) > cap(s.bytes)-len(s.bytes) {
		s.bytes = make([]byte, 0, max(len(b), min(len(b)*s.left, arenaBytes)))
	}
	n := len(s.bytes)
	s.bytes = append(s.bytes, b...)
	return mapped.StringOf(s.bytes[n:])
}

// strings returns n empty strings. It is the last call for a series.
func (s *arena) strings(n int) []string {
	if s.left == 0 {
		return make([]string, n)
	}
	if n > len(s.values) {
		s.values = make([]string, max(n, min(n*s.left, arenaStrings)))
	}
	values := s.values[:n:n]
	s.values = s.values[n:]
	s.left--
	return values
}

// pool keeps the memory of readers that a View closes, for readers that it opens at the same time. After a rollout the new
// files have as many series as the old ones, and new memory from the kernel costs more than reading them. A nil pool is
// empty and keeps nothing.
type pool struct {
	mu      sync.Mutex
	series  [][]SeriesInfo
	records [][]record
}

// give takes what a reader has, which is about to be closed.
func (s *pool) give(r *Reader) {
	if s != nil && cap(r.series) > 0 {
		s.series, s.records = append(s.series, r.series[:0]), append(s.records, r.records[:0])
		r.series, r.records = nil, nil
	}
}

// take returns memory for n series; nil when there is none that large.
func (s *pool) take(n int) (series []SeriesInfo, records []record) {
	if s == nil {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.series {
		if cap(s.series[i]) < n || cap(s.records[i]) < n {
			continue
		}
		series, records = s.series[i], s.records[i]
		last := len(s.series) - 1
		s.series[i], s.records[i] = s.series[last], s.records[last]
		s.series[last], s.records[last] = nil, nil
		s.series, s.records = s.series[:last], s.records[:last]
		break
	}
	return series, records
}

// drop leaves what nobody took to the garbage collector.
func (s *pool) drop() { s.series, s.records = nil, nil }

// What a reader makes of a file is bounded by the bytes of the file: its cells, which no two series share, and the text of
// its series, of which each sample repeats the names. A writer keeps within the same budget, so no file of a writer is left
// out for it.

// Budget returns the largest total weight of the series in a file of length bytes, see Family.Weight: a multiple of the
// length, and at least 16 MiB. FORMAT.md has the reasons.
func Budget(length int64) int64 { return max(80*length, 16<<20) }

var errBudget = errors.New("the samples of this process repeat long labels too often for what its file holds; make them shorter")

// Weight estimates how many bytes of text a series with these label values takes in a process that reads the file.
func (f *Family) Weight(values []string) int64 {
	n := 0
	for _, v := range values {
		n += len(v)
	}
	return f.textWeight().of(n)
}

// textWeight is what Weight needs to know of a family.
type textWeight struct{ names, copies int64 }

// of returns the weight of a series whose label values have n bytes together.
func (w textWeight) of(n int) int64 { return (w.names + int64(n)) * w.copies }

func (f *Family) textWeight() textWeight {
	const number = 32 // a value and the label of a bucket
	names := len(f.Name) + number
	for _, l := range f.Labels {
		names += len(l) + len(`="",`)
	}
	// A reader keeps the labels once as they are written and once to find the series.
	copies := 2 + 1
	switch f.Type {
	case HistogramType:
		copies = 2 + len(f.Bounds) + 3 // one up to +Inf, the sum and the count
	case SummaryType:
		copies = 2 + 2
		if f.Window != nil {
			copies += len(f.Window.Objectives)
		}
	}
	return textWeight{int64(names), int64(copies)}
}

// archiveBudget is Budget for an archive. It holds the series of many files, each of which may have been a short one.
func archiveBudget(length int64) int64 { return max(Budget(length), 64<<20) }

// lighten leaves out the heaviest families of an archive that exceeds the budget, as few as will do. weights are those of the
// families. It reports whether all could stay.
func (a *Archive) lighten(weights []int64, budget int64) bool {
	total := int64(0)
	for _, n := range weights {
		total += n
	}
	if total <= budget {
		return true
	}
	out := make([]bool, len(weights))
	for total > budget {
		heaviest := 0
		for i, n := range weights {
			if n > weights[heaviest] {
				heaviest = i
			}
		}
		total -= weights[heaviest]
		weights[heaviest], out[heaviest] = 0, true
		a.LeftOut += a.Families[heaviest].Len()
	}
	kept := a.Families[:0]
	for i := range a.Families {
		if !out[i] {
			kept = append(kept, a.Families[i])
		}
	}
	a.Families = kept
	return false
}

// weigh makes sure that the series are within the file's budget, and that no two of them share cells. It says nothing
// while the writer changes its layout, because cells may be seen on their way from one series to the next.
func (r *Reader) weigh(layout uint64, first int) error {
	if first == 0 {
		r.weight, r.cells = 0, nil
	}
	if n := (len(r.memory.Words) + 63) / 64; n > len(r.cells) {
		r.cells = append(r.cells, make([]uint64, n-len(r.cells))...)
	}
	shared := -1
	for i := first; i < len(r.series); i++ {
		s := &r.series[i]
		if s.Free {
			continue
		}
		if f := &r.families[s.Family]; !f.TooLong() { // which nobody exposes
			r.weight += f.Weight(s.Values)
		}
		if !r.claim(s.Cell, s.Words) && shared < 0 {
			shared = i
		}
	}
	if r.memory.Load(hdrLayout) != layout {
		return nil // and the next Refresh begins with all of them
	}
	if shared >= 0 {
		return corrupt("at %d: a series with cells of another one", r.records[shared].offset())
	}
	if r.weight > Budget(r.seen.size) {
		return corrupt("its samples have some %d bytes of text, the file has %d", r.weight, r.seen.size)
	}
	return nil
}

// claim notes that words are a series' cells. It returns false when some of them are another's.
func (r *Reader) claim(first, n uint32) bool {
	own := true
	for i := first; i < first+n; {
		word, bit := i/64, i%64
		width := min(64-bit, first+n-i)
		mask := (^uint64(0) >> (64 - width)) << bit
		own = own && r.cells[word]&mask == 0
		r.cells[word] |= mask
		i += width
	}
	return own
}
