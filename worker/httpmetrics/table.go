package httpmetrics

import (
	"hash/maphash"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// table finds what counts a request by its method and status and the values of its labels: open addressing with linear
// probing. Finding takes no lock and allocates nothing, and may go on while something is added; nothing is ever
// removed. How many entries there are is bounded by what label.admit lets in. The zero value is empty.
type table[C any] struct {
	slots atomic.Pointer[[]atomic.Pointer[entry[C]]] // a power of two of them, at least a quarter nil; nil: none yet

	mu sync.Mutex // taken to add
	n  int        // protected by mu
}

// entry is immutable.
type entry[C any] struct {
	hash    uint64
	outcome uint32
	values  []string
	child   C
}

var seed = maphash.MakeSeed()

func hashOf(outcome uint32, values []string) uint64 {
	h := uint64(outcome) + 1
	for _, v := range values {
		h = h*0x9e3779b97f4a7c15 ^ maphash.String(seed, v)
	}
	hi, lo := bits.Mul64(h, 0x9e3779b97f4a7c15)
	return hi ^ lo
}

func (t *table[C]) find(outcome uint32, values []string) (child C, ok bool) {
	slots := t.slots.Load()
	if slots == nil {
		return child, false
	}
	if e := findIn(*slots, hashOf(outcome, values), outcome, values); e != nil {
		return e.child, true
	}
	return child, false
}

func findIn[C any](slots []atomic.Pointer[entry[C]], hash uint64, outcome uint32, values []string) *entry[C] {
	for i := hash; ; i++ {
		e := slots[i&uint64(len(slots)-1)].Load()
		if e == nil || e.hash == hash && e.outcome == outcome && slices.Equal(e.values, values) {
			return e
		}
	}
}

// add returns what is there for these values, and puts there what create makes when there is nothing. It keeps values.
func (t *table[C]) add(outcome uint32, values []string, create func() C) C {
	t.mu.Lock()
	defer t.mu.Unlock()
	if child, ok := t.find(outcome, values); ok {
		return child
	}
	e := &entry[C]{hashOf(outcome, values), outcome, values, create()}
	slots := t.slots.Load()
	if slots == nil || 4*(t.n+1) > 3*len(*slots) {
		larger := make([]atomic.Pointer[entry[C]], max(8, 2*t.n))
		if slots != nil {
			larger = make([]atomic.Pointer[entry[C]], 2*len(*slots))
			for i := range *slots {
				if old := (*slots)[i].Load(); old != nil {
					put(larger, old)
				}
			}
		}
		put(larger, e)
		t.slots.Store(&larger)
	} else {
		put(*slots, e)
	}
	t.n++
	return e.child
}

func put[C any](slots []atomic.Pointer[entry[C]], e *entry[C]) {
	i := e.hash
	for slots[i&uint64(len(slots)-1)].Load() != nil {
		i++
	}
	slots[i&uint64(len(slots)-1)].Store(e)
}

// lookUp returns what counts e among what has these computed labels. It makes it, by its values, where there is nothing
// yet.
func lookUp[C any](t *table[C], e *Exchange, outcome uint32, labels []*label, create func(values []string) C) C {
	e.values = e.values[:0]
	for _, l := range labels {
		e.values = append(e.values, l.of(e))
	}
	if child, ok := t.find(outcome, e.values); ok {
		return child
	}
	admitted := make([]string, len(labels))
	for i, l := range labels {
		admitted[i] = l.admit(e.values[i])
	}
	if child, ok := t.find(outcome, admitted); ok {
		return child
	}
	return t.add(outcome, admitted, func() C { return create(admitted) })
}
