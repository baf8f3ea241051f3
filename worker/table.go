package worker

import (
	"iter"
	"math/bits"
	"sync/atomic"
)

// table is the index of a definition's series by their label values: open addressing with linear probing. Reading takes
// no lock and may go on while the one writer, who holds the registry's lock, inserts, removes or puts a larger table in
// its place.
type table struct {
	slots []atomic.Pointer[series] // a power of two; at least one is nil, so that every search ends
	taken int                      // slots that are not nil, tombstones included; the writer's
}

// tombstone is where a series was removed. Its hash is that of no series.
var tombstone = new(series)

func newTable(size int) *table { return &table{slots: make([]atomic.Pointer[series], size)} }

// find returns the series of these values, or nil.
func (t *table) find(hash uint64, values []string) *series {
	slots := t.slots
next:
	for i := hash; ; i++ {
		s := slots[i&uint64(len(slots)-1)].Load()
		if s == nil {
			return nil
		}
		if s.hash != hash || len(s.values) != len(values) {
			continue
		}
		for i, v := range s.values {
			if v != values[i] {
				continue next
			}
		}
		return s
	}
}

// all returns the series in no particular order. A series that comes or goes meanwhile may be among them or not.
func (t *table) all() iter.Seq[*series] {
	return func(yield func(*series) bool) {
		for i := range t.slots {
			if s := t.slots[i].Load(); s != nil && s != tombstone && !yield(s) {
				return
			}
		}
	}
}

// insert adds a series that is not in the table and returns the table to use from now on: this one, or a new one with
// room.
func (t *table) insert(s *series) *table {
	if 4*(t.taken+1) > 3*len(t.slots) {
		t = t.rebuilt()
	}
	mask := uint64(len(t.slots) - 1)
	i := s.hash & mask
	for t.slots[i].Load() != nil {
		i = (i + 1) & mask
	}
	t.taken++
	t.slots[i].Store(s)
	return t
}

// rebuilt returns a table without tombstones, with room for as many series again.
func (t *table) rebuilt() *table {
	live := 1
	for range t.all() {
		live++
	}
	n := newTable(max(2, 1<<bits.Len(uint(2*live-1))))
	for s := range t.all() {
		n = n.insert(s)
	}
	return n
}

// remove takes a series out; false when it is not in.
func (t *table) remove(s *series) bool {
	mask := uint64(len(t.slots) - 1)
	for i := s.hash & mask; ; i = (i + 1) & mask {
		switch t.slots[i].Load() {
		case nil:
			return false
		case s:
			t.slots[i].Store(tombstone)
			return true
		}
	}
}
