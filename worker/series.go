package worker

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hash/maphash"
	"iter"
	"math/bits"
	"math/rand/v2"
	"unsafe"

	"github.com/onescrape/onescrape/shmstore"
)

// series is one set of label values of one definition, and where its value is. It is part of every handle: the handle
// is reachable for exactly as long as somebody can write to the series.
type series struct {
	// cells is the first of the words that hold the value: in the process's file or in its memory. It changes when the
	// series moves from one to the other, see move.go, and never to the words of another series.
	cells atomic.Pointer[uint64]

	hash    uint64   // of values
	values  []string // of the variable labels, in the order in which they were declared
	def     *definition
	metric  prometheus.Metric // the handle that this is part of
	created time.Time

	exemplars atomic.Pointer[exemplars] // nil until there is one

	// Protected by the registry's lock.
	stored   *shmstore.Series // nil while it is in process memory
	overflow bool             // is in process memory because the file had no space for it
}

// Desc returns the descriptor, the same for all series of a definition. It implements prometheus.Metric.
func (s *series) Desc() *prometheus.Desc { return s.def.desc }

// Describe implements prometheus.Collector.
func (s *series) Describe(ch chan<- *prometheus.Desc) { ch <- s.def.desc }

// Collect implements prometheus.Collector.
func (s *series) Collect(ch chan<- prometheus.Metric) { ch <- s.metric }

// memoryCells returns n words of process memory that share no cache line with another series'.
func memoryCells(n int) []uint64 {
	const line = 8
	return make([]uint64, (n+line-1)/line*line)[:n]
}

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

// The hash of a series' label values. It is keyed, because label values come from users and their clients. Short values
// are multiplied with the key where they stand, by the scheme of wyhash; a call of maphash costs more than the rest of
// a look-up.
var (
	hashSeed = maphash.MakeSeed()
	hashKey  = [2]uint64{rand.Uint64() | 1, rand.Uint64() | 1}
)

// hashValues returns a hash of the values of all variable labels. It is never 0.
func hashValues(values []string) uint64 {
	h := hashKey[0]
	for _, s := range values {
		var a, b uint64
		switch n := len(s); {
		case n > 16:
			a = maphash.String(hashSeed, s)
		case n >= 8:
			a, b = load8(s), load8(s[n-8:])
		case n >= 4:
			a, b = load4(s), load4(s[n-4:])
		case n > 0:
			a = uint64(s[0])<<16 | uint64(s[n/2])<<8 | uint64(s[n-1])
		}
		hi, lo := bits.Mul64(a^h, b^hashKey[1]^uint64(len(s)))
		h = hi ^ lo
	}
	return h | 1<<63
}

func load8(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

func load4(s string) uint64 {
	_ = s[3]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24
}

// All of the package's unsafe code. A handle keeps one pointer to the first of its words, so that it can be swapped in
// one step when the words move; these two reach the others. The caller knows how many there are, by the type.

// word returns the i-th word after first.
func word(first *uint64, i int) *uint64 {
	return (*uint64)(unsafe.Add(unsafe.Pointer(first), i*8))
}

// words returns n words from first on.
func words(first *uint64, n int) []uint64 {
	return unsafe.Slice(first, n)
}
