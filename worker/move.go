package worker

import (
	"math"
	"sync/atomic"

	"github.com/onescrape/onescrape/shmstore"
)

// A series moves when metrics that were constructed before Open go into the store, and when Detach takes them out of
// it. Writers take no lock, so one of them can hold the old address across the move and write to it afterwards. Nothing
// of that is lost: the words that are left behind bear a mark that no value is, every hot method sees from the result
// of its one atomic instruction that it hit a mark, and carries what it wrote over to the new place under the
// registry's lock. On the usual way this costs a comparison with a register.
const (
	// integerMark is what a word is set to that counted integers. Stragglers add to it and it stays recognizable: a
	// count is less than 1<<63.
	integerMark = 1 << 63
	// floatMark is what a word is set to that held the bits of a float64: a NaN with a payload of its own. Who observes
	// just that NaN is slow, and nothing worse.
	floatMark = 0x7ff8_6d6f_7665_6421
)

// gaugeMark is floatMark as a gauge's word stands for it.
var gaugeMark = shmstore.GaugeWord(math.Float64frombits(floatMark))

// move makes to the series' words, with the value that it has. to is all zero and known to nobody else. The caller
// holds the registry's lock.
func (s *series) move(to []uint64) {
	from := s.cells.Load()
	if g, ok := s.metric.(interface{ moveTimed(to []uint64) bool }); ok && g.moveTimed(to) {
		return
	}
	if h, ok := s.metric.(*Histogram); ok && h.def.family.Native != nil {
		table := h.moveNative(to)
		s.moveWords(from, to[:h.def.family.NativeCells()])
		s.cells.Store(&to[0])
		h.table.Store(table)
		return
	}
	s.moveWords(from, to)
	s.cells.Store(&to[0])
	s.placeWindow()
}

// placeWindow brings the window of a summary, if it has one, to where the series is. The caller holds the registry's lock.
func (s *series) placeWindow() {
	if m, ok := s.metric.(*Summary); ok && m.window != nil {
		m.window.place(s.def.registry.writer, s.stored)
	}
}

// moveWords moves words whose kind says all about them.
func (s *series) moveWords(from *uint64, to []uint64) {
	for i := range to {
		switch s.def.kindOf(i) {
		case integerCell:
			atomic.StoreUint64(&to[i], atomic.SwapUint64(word(from, i), integerMark))
		case floatCell:
			atomic.StoreUint64(&to[i], atomic.SwapUint64(word(from, i), floatMark))
		case gaugeCell:
			atomic.StoreUint64(&to[i], atomic.SwapUint64(word(from, i), gaugeMark))
		}
	}
}

// cellKind is what one word of a series holds.
type cellKind uint8

const (
	integerCell cellKind = iota
	floatCell
	gaugeCell
)

// kindOf returns what the i-th word of the definition's series holds.
func (d *definition) kindOf(i int) cellKind {
	switch d.family.Type {
	case shmstore.CounterType:
		if i == shmstore.CounterFloat {
			return floatCell
		}
	case shmstore.HistogramType:
		if i == shmstore.HistogramSum {
			return floatCell
		}
	case shmstore.SummaryType:
		if i == shmstore.SummarySum {
			return floatCell
		}
	default:
		return gaugeCell
	}
	return integerCell
}

// observe adds 1 to the integer in the count-th of the words at p, and v to the float64 in the sum-th. The sum is read
// before the count is written, because no processor reads on while it does a locked instruction.
func (s *series) observe(p *uint64, count, sum int, v float64) {
	old := atomic.LoadUint64(word(p, sum))
	if atomic.AddUint64(word(p, count), 1) >= integerMark {
		s.addIntegerMarked(count, 1)
	}
	if old == floatMark ||
		!atomic.CompareAndSwapUint64(word(p, sum), old, math.Float64bits(math.Float64frombits(old)+v)) {
		s.addFloat(p, sum, v)
	}
}

// addIntegerMarked is for a writer that just added n to a word with a mark: it carries n over to where the series
// moved. When the word was no marked one but is full, n is taken out again and false returned.
func (s *series) addIntegerMarked(i int, n uint64) bool {
	s.def.registry.mu.Lock()
	defer s.def.registry.mu.Unlock()
	w := word(s.cells.Load(), i)
	if atomic.LoadUint64(w) >= integerMark {
		atomic.AddUint64(w, -n)
		return false
	}
	atomic.AddUint64(w, n)
	return true
}

// addFloat adds v to the float64 in the i-th of the words at p.
func (s *series) addFloat(p *uint64, i int, v float64) {
	w := word(p, i)
	for {
		old := atomic.LoadUint64(w)
		if old == floatMark {
			s.addFloatMarked(i, v)
			return
		}
		if atomic.CompareAndSwapUint64(w, old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

// addFloatMarked adds v to the i-th word, which bore a mark a moment ago, where it is now.
func (s *series) addFloatMarked(i int, v float64) {
	s.def.registry.mu.Lock()
	defer s.def.registry.mu.Unlock()
	w := word(s.cells.Load(), i)
	for {
		old := atomic.LoadUint64(w)
		if atomic.CompareAndSwapUint64(w, old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}
