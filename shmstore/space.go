package shmstore

import (
	"errors"
	"fmt"
	"os"

	"math"
	"sync/atomic"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
	"github.com/onescrape/onescrape/shmstore/internal/mapped"
	"github.com/onescrape/onescrape/shmstore/internal/osfile"
)

// grain is what a file grows by: the system maps whole pages of its own size, which may be larger than ours.
var grain = int64(max(os.Getpagesize(), pageSize))

// space is the writer's map of its file: what is reserved, what is handed out, and what came back. It belongs to the
// Writer and is under its lock.
type space struct {
	fd       int
	memory   *mapped.Memory
	reserved int64 // the file's length
	next     int64 // what lies before is handed out
	limit    int64 // a multiple of grain

	scalars [TimedWords]scalarPage // by words of a cell: 1 and 2
	lines   run                    // where the next cells that take whole lines go
	blocks  run                    // where the next go that take a large part of a page
	free    map[int][]int64        // cells that came back, by words
	records map[int64][]int64      // records that came back, by length
}

// run is a part of the file that is handed out piece by piece.
type run struct{ next, end int64 }

// scalarPage is a page of cells of one size of words, of which used are taken.
type scalarPage struct {
	offset int64
	used   int64
}

// Steps in which the file grows: an eighth of what it has, within these bounds.
const (
	minStep = 16 << 10
	maxStep = 1 << 20
)

// take hands out n bytes, whole pages, all zero.
func (s *space) take(n int64) (int64, error) {
	n = encoding.Align(n, pageSize)
	end := s.next + n
	if end > s.limit {
		return 0, fmt.Errorf("%w: the file would exceed its limit of %d bytes", ErrFull, s.limit)
	}
	if end > s.reserved {
		step := encoding.Align(min(max(s.reserved/8, minStep), maxStep), pageSize)
		if err := s.grow(min(max(end, s.reserved+step), s.limit)); err != nil {
			// A full file system may still have what is needed just now.
			if err = s.grow(end); err != nil {
				return 0, err
			}
		}
	}
	offset := s.next
	s.next = end
	return offset, nil
}

// grow reserves the file's bytes up to end or a little further, maps them and tells readers.
func (s *space) grow(end int64) error {
	end = encoding.Align(end, grain)
	if err := osfile.Allocate(s.fd, s.reserved, end); err != nil {
		return fmt.Errorf("grow to %d bytes: %w", end, errFull(err))
	}
	if err := s.memory.Fill(s.fd, s.reserved, end); err != nil {
		return fmt.Errorf("map %d bytes: %w", end-s.reserved, err)
	}
	s.reserved = end
	s.memory.Store(hdrReserved, uint64(end))
	return nil
}

// cells hands out the cells of a series, all zero. Few words are scalars and lie transposed in a page; the others begin
// on a line of the cache and end with one.
func (s *space) cells(words int) (int64, error) {
	if list := s.free[words]; len(list) > 0 {
		offset := list[len(list)-1]
		s.free[words] = list[:len(list)-1]
		return offset, nil
	}
	if words < len(s.scalars) && lineSize%(words*wordSize) == 0 {
		return s.scalar(words)
	}
	size := encoding.Align(int64(words)*wordSize, lineSize)
	r, ahead := &s.lines, size
	if size > pageSize/4 {
		// A page would hold few of them and a rest that is wasted.
		r, ahead = &s.blocks, max(size, 4*pageSize)
	}
	if r.next+size > r.end {
		offset, err := s.take(ahead)
		if errors.Is(err, ErrFull) && ahead > size {
			// What is left may still do for this one.
			ahead = size
			offset, err = s.take(ahead)
		}
		if err != nil {
			return 0, err
		}
		*r = run{offset, offset + encoding.Align(ahead, pageSize)}
	}
	offset := r.next
	r.next += size
	return offset, nil
}

// scalar hands out cells within a page so that neighbours in time share no line of the cache until each line has one:
// the n-th goes to line n mod 64, and there behind what the line has already.
func (s *space) scalar(words int) (int64, error) {
	p := &s.scalars[words]
	const lines = pageSize / lineSize
	perLine := int64(lineSize / (words * wordSize))
	if p.offset == 0 || p.used == lines*perLine {
		offset, err := s.take(pageSize)
		if err != nil {
			return 0, err
		}
		*p = scalarPage{offset: offset}
	}
	n := p.used
	p.used++
	return p.offset + n%lines*lineSize + n/lines*int64(words)*wordSize, nil
}

// giveCells takes cells back that nobody writes to any more.
func (s *space) giveCells(offset int64, words int) { s.free[words] = append(s.free[words], offset) }

// recordSize rounds the length of a series record up, so that one that came back fits others.
func recordSize(n int64) int64 {
	n = encoding.Align(n, 16)
	if n > 256 {
		n = encoding.Align(n, 64)
	}
	return n
}

// record hands out a record of size bytes that came back; 0 when there is none.
func (s *space) record(size int64) int64 {
	for _, n := range []int64{size, recordSize(size + 16), recordSize(size + 64)} {
		if list := s.records[n]; len(list) > 0 {
			offset := list[len(list)-1]
			s.records[n] = list[:len(list)-1]
			return offset
		}
	}
	return 0
}

func (s *space) giveRecord(offset, size int64) { s.records[size] = append(s.records[size], offset) }

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
