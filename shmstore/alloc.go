package shmstore

import (
	"errors"
	"fmt"
	"os"
)

// grain is what a file grows by: the system maps whole pages of its own size, which may be larger than ours.
var grain = int64(max(os.Getpagesize(), pageSize))

// space is the writer's map of its file: what is reserved, what is handed out, and what came back. It belongs to the
// Writer and is under its lock.
type space struct {
	fd       int
	memory   *mapping
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
	n = align(n, pageSize)
	end := s.next + n
	if end > s.limit {
		return 0, fmt.Errorf("%w: the file would exceed its limit of %d bytes", ErrFull, s.limit)
	}
	if end > s.reserved {
		step := align(min(max(s.reserved/8, minStep), maxStep), pageSize)
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
	end = align(end, grain)
	if err := allocate(s.fd, s.reserved, end); err != nil {
		return fmt.Errorf("grow to %d bytes: %w", end, errFull(err))
	}
	if err := s.memory.fill(s.fd, s.reserved, end); err != nil {
		return fmt.Errorf("map %d bytes: %w", end-s.reserved, err)
	}
	s.reserved = end
	s.memory.store(hdrReserved, uint64(end))
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
	size := align(int64(words)*wordSize, lineSize)
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
		*r = run{offset, offset + align(ahead, pageSize)}
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
	n = align(n, 16)
	if n > 256 {
		n = align(n, 64)
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
