package shmstore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"sort"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
)

// Exemplar is one counted or observed value, with labels that lead to its origin, such as a trace. It is kept in an
// ExemplarSlot.
type Exemplar struct {
	Value float64
	At    int64 // when, in nanoseconds since 1970
	// Labels are names and values as AppendExemplarLabel writes them, the names ascending. nil are none.
	Labels []byte
}

// AppendExemplarLabel appends a label to those of an exemplar: each string as its length, an unsigned varint, and its
// bytes. Names come in ascending order.
func AppendExemplarLabel(b []byte, name, value string) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(name))), name...)
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}

// maxExemplarRunes is what OpenMetrics allows the names and values of an exemplar's labels to have together.
const maxExemplarRunes = 128

// MaxExemplarLabels is the largest number of bytes of labels that fit. 128 runes of at most 4 bytes are 512 bytes; of
// at most 128 names and as many values each has a length of 1 byte, or of 2, which not more than 4 of them can need.
const MaxExemplarLabels = 808

// Pairs returns the labels as names and values in turn. ok is false when no exemplar may have such labels, because a file
// may hold anything.
func (e *Exemplar) Pairs() (pairs []string, ok bool) {
	runes := 0
	for b := e.Labels; len(b) > 0; {
		var pair [2]string
		for i := range pair {
			n, size := binary.Uvarint(b)
			if size <= 0 || n > uint64(len(b)-size) {
				return nil, false
			}
			pair[i] = string(b[size : size+int(n)])
			b = b[size+int(n):]
			runes += utf8.RuneCountInString(pair[i])
			if !utf8.ValidString(pair[i]) || runes > maxExemplarRunes {
				return nil, false
			}
		}
		if pair[0] == "" || strings.HasPrefix(pair[0], "__") || len(pairs) > 0 && pairs[len(pairs)-2] >= pair[0] {
			return nil, false
		}
		pairs = append(pairs, pair[0], pair[1])
	}
	return pairs, true
}

// Compare returns a positive number when e is shown instead of o, because it is newer. Between two of the same time the
// content decides, so that the order of the comparisons does not matter.
func (e *Exemplar) Compare(o *Exemplar) int {
	return cmp.Or(
		cmp.Compare(e.At, o.At),
		cmp.Compare(math.Float64bits(e.Value), math.Float64bits(o.Value)),
		bytes.Compare(e.Labels, o.Labels),
	)
}

// ExemplarSlots returns how many exemplars a series of the family keeps: a counter's one, a histogram's one for each
// classic bucket, in the order of the buckets, or where it has native buckets alone one for each of ten magnitudes; 0
// for every other type.
func (f *Family) ExemplarSlots() int {
	switch {
	case f.Type == CounterType:
		return 1
	case f.Type != HistogramType:
		return 0
	case f.nativeAlone():
		return nativeExemplars
	default:
		return len(f.Bounds) + 1
	}
}

// nativeExemplars is how many exemplars a native histogram keeps, by default, in client_golang.
const nativeExemplars = 10

func (f *Family) nativeAlone() bool { return f.Native != nil && len(f.Bounds) == 0 }

// ExemplarOf returns the number of the exemplar, below ExemplarSlots, that an exemplar with the value v replaces. In a
// histogram with native buckets alone it is the exponent of v modulo ten. So the exemplars that are kept differ in
// magnitude, and the order of arrival does not decide which one stays.
func (f *Family) ExemplarOf(v float64) int {
	switch {
	case f.Type != HistogramType:
		return 0
	case f.nativeAlone():
		_, exponent := math.Frexp(v)
		return (exponent%nativeExemplars + nativeExemplars) % nativeExemplars
	default:
		return sort.SearchFloat64s(f.Bounds, v)
	}
}

// A slot: how many bytes of labels fit, a selector, and two exemplars. An exemplar is written to the place that the
// selector does not name, then the selector is raised.
const (
	slotCapacity = 0
	slotSelector = 1 // 0: nothing yet; otherwise the exemplar is number selector mod 2
	slotFirst    = 2

	exemplarValue  = 0
	exemplarAt     = 1
	exemplarLength = 2 // of the labels, in the lower half; the upper half of the checksum in the upper
	exemplarLabels = 3
)

// Slots come in two sizes, which fill whole lines: for a trace and a span, and for any.
const smallLabels = 128

func slotWords(capacity int) int { return slotFirst + 2*(exemplarLabels+capacity/wordSize) }

// ExemplarSlot is a place for one exemplar: in the file of a process, where every reader finds it, or in its memory. A
// process that is killed while it stores leaves the exemplar before, and no reader ever sees a part of one. Store is
// for one goroutine at a time, Load for any number beside it. The zero ExemplarSlot has no space.
type ExemplarSlot struct {
	words    []uint64
	capacity int
	key      uint64
}

// NewExemplarSlot returns a slot in process memory for up to labels bytes of labels.
func NewExemplarSlot(labels int) ExemplarSlot {
	capacity := slotSize(labels)
	words := make([]uint64, slotWords(capacity))
	words[slotCapacity] = uint64(capacity)
	return ExemplarSlot{words: words, capacity: capacity}
}

func slotSize(labels int) int {
	if labels <= smallLabels {
		return smallLabels
	}
	return MaxExemplarLabels
}

// Fits reports whether an exemplar with that many bytes of labels can be stored.
func (s *ExemplarSlot) Fits(labels int) bool { return s.words != nil && labels <= s.capacity }

// Store puts e in the place of the exemplar before. Its labels must fit.
func (s *ExemplarSlot) Store(e *Exemplar) {
	next := atomic.LoadUint64(&s.words[slotSelector]) + 1
	to := s.place(next)
	atomic.StoreUint64(&to[exemplarValue], math.Float64bits(e.Value))
	atomic.StoreUint64(&to[exemplarAt], uint64(e.At))
	sum := mix(mix(s.key, math.Float64bits(e.Value)), uint64(e.At))
	labels := e.Labels
	for i := exemplarLabels; len(labels) > 0; i++ {
		var word uint64
		if len(labels) >= wordSize {
			word, labels = encoding.Native.Uint64(labels), labels[wordSize:]
		} else {
			var last [wordSize]byte
			copy(last[:], labels)
			word, labels = encoding.Native.Uint64(last[:]), nil
		}
		atomic.StoreUint64(&to[i], word)
		sum = mix(sum, word)
	}
	atomic.StoreUint64(&to[exemplarLength], uint64(len(e.Labels))|sum>>32<<32)
	atomic.StoreUint64(&s.words[slotSelector], next)
}

// Load returns the exemplar that was stored last, with its labels in buf, which must have MaxExemplarLabels bytes. ok
// is false when there is none, and when others are stored so often that no whole one could be read in a few tries.
func (s *ExemplarSlot) Load(buf []byte) (e Exemplar, ok bool) {
	if s.words == nil {
		return Exemplar{}, false
	}
	for range 8 {
		selector := atomic.LoadUint64(&s.words[slotSelector])
		if selector == 0 {
			return Exemplar{}, false
		}
		from := s.place(selector)
		e.Value = math.Float64frombits(atomic.LoadUint64(&from[exemplarValue]))
		e.At = int64(atomic.LoadUint64(&from[exemplarAt]))
		length := atomic.LoadUint64(&from[exemplarLength])
		n := int(uint32(length))
		if n > s.capacity {
			return Exemplar{}, false
		}
		sum := mix(mix(s.key, math.Float64bits(e.Value)), uint64(e.At))
		for i := 0; i < n; i += wordSize {
			word := atomic.LoadUint64(&from[exemplarLabels+i/wordSize])
			encoding.Native.PutUint64(buf[i:i+wordSize], word)
			sum = mix(sum, word)
		}
		if atomic.LoadUint64(&s.words[slotSelector]) == selector {
			e.Labels = buf[:n:n]
			return e, length>>32 == sum>>32
		}
	}
	return Exemplar{}, false
}

func (s *ExemplarSlot) place(selector uint64) []uint64 {
	size := exemplarLabels + s.capacity/wordSize
	return s.words[slotFirst+int(selector&1)*size:][:size]
}

// mix takes one more word into a checksum: all words of an exemplar, and the key of the series that it is of. Who looks
// into a place that has become another series' meanwhile finds that what is there is not for him. (CRC-32C would let
// the labels escape from the stack.)
func mix(sum, word uint64) uint64 {
	sum = (sum ^ word) * 0x9e3779b97f4a7c15
	return sum ^ sum>>32
}

// exemplarKey is a different number for each series that a file has ever had, except by a chance of about 1 in 2^32.
func exemplarKey(record int64, born uint64) uint64 { return mix(mix(0, uint64(record)), born) }

// The extra block of a series begins with a word that says what it is and how much: the kind in the lower half,
// the number of words that follow in the upper. Of exemplars these are the offsets of the slots, 0 for one that nothing
// was stored in.
const (
	auxExemplars = 1

	maxExemplarSlots = 2 * (maxBounds + 1)
)

// aux is what the writer remembers of the extra block of a series.
type aux struct {
	index int64 // offset; 0: nothing
	slots []exemplarPlace
}

type exemplarPlace struct {
	offset   int64
	capacity int
}

var (
	errNoExemplars = errors.New("shmstore: the series keeps no such exemplar")
	errSeriesOver  = errors.New("shmstore: the series is over")
)

// StoreExemplar stores e as the i-th exemplar of a series, of those that Family.ExemplarSlots counts, and returns the
// slot, which later ones that fit can be stored in directly. It makes the slot, and a larger one in its place when that
// is too small. Nothing else may store in the old one meanwhile or later: it goes to another series. Errors: ErrFull,
// and that the series was released or its family has no such exemplar.
func (w *Writer) StoreExemplar(s *Series, i int, e *Exemplar) (ExemplarSlot, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.state != seriesShown && s.state != seriesHidden {
		return ExemplarSlot{}, errSeriesOver
	}
	if i < 0 || i >= s.exemplars || len(e.Labels) > MaxExemplarLabels {
		return ExemplarSlot{}, errNoExemplars
	}
	if s.aux.index == 0 {
		index, err := w.blank(1 + s.exemplars)
		if err != nil {
			return ExemplarSlot{}, err
		}
		s.aux = aux{index: index, slots: make([]exemplarPlace, s.exemplars)}
		w.memory.Store(index, auxExemplars|uint64(s.exemplars)<<32)
		w.memory.Store(s.offset+seriesAux, uint64(index))
	}
	old := s.aux.slots[i]
	place := exemplarPlace{capacity: slotSize(len(e.Labels))}
	if old.offset != 0 && old.capacity >= place.capacity {
		place = old
	} else {
		var err error
		if place.offset, err = w.blank(slotWords(place.capacity)); err != nil {
			return ExemplarSlot{}, err
		}
		w.memory.Store(place.offset, uint64(place.capacity))
	}
	slot := ExemplarSlot{
		words:    w.memory.Words[place.offset/wordSize:][:slotWords(place.capacity):slotWords(place.capacity)],
		capacity: place.capacity,
		key:      s.key,
	}
	slot.Store(e)
	if place != old {
		s.aux.slots[i] = place
		w.memory.Store(s.aux.index+int64(1+i)*wordSize, uint64(place.offset))
		w.memory.Add(hdrAux, 1)
		if old.offset != 0 {
			w.space.giveCells(old.offset, slotWords(old.capacity))
		}
	}
	return slot, nil
}

// blank hands out words that are zero.
func (w *Writer) blank(words int) (int64, error) {
	offset, err := w.space.cells(words)
	if err != nil {
		return 0, err
	}
	for i := range words {
		w.memory.Store(offset+int64(i)*wordSize, 0)
	}
	return offset, nil
}

// giveAux frees the extra block of a series that is over.
func (w *Writer) giveAux(s *Series) {
	if s.aux.index == 0 {
		return
	}
	for _, slot := range s.aux.slots {
		if slot.offset != 0 {
			w.space.giveCells(slot.offset, slotWords(slot.capacity))
		}
	}
	w.space.giveCells(s.aux.index, 1+len(s.aux.slots))
	s.aux = aux{}
}

// refreshAux finds out which series have an extra block, if that may have changed.
func (r *Reader) refreshAux() error {
	m := &r.memory
	now := m.Load(hdrAux)
	if now == r.seen.aux {
		return nil
	}
	if int64(m.Load(hdrReserved)) > int64(len(m.Bytes)) {
		return errGrown // the extra block may lie there
	}
	for i := range r.series[:r.checked] {
		r.series[i].Exemplars = !r.series[i].Free && m.Load(r.records[i].offset()+seriesAux) != 0
	}
	r.seen.aux = now
	return nil
}

// ReadExemplars calls fn for each exemplar of these series, which are indexes into Series: k is the place in the list
// of indexes, slot the number of the exemplar in its series, see Family.ExemplarSlots. The exemplar is valid during fn
// only. What was replaced meanwhile is passed over. It may be called after any Refresh.
func (r *Reader) ReadExemplars(series []int32, fn func(k, slot int, e *Exemplar)) error {
	if len(series) == 0 {
		return nil
	}
	if r.reuse.labels == nil {
		r.reuse.labels = make([]byte, MaxExemplarLabels)
	}
	return r.wrap(r.guard(func() error {
		m := &r.memory
		var e Exemplar
		for k, i := range series {
			offsets := r.exemplarIndex(m.Load(r.records[i].offset() + seriesAux))
			key := uint64(0)
			for slot := range offsets {
				offset := atomic.LoadUint64(&offsets[slot])
				if offset == 0 {
					continue
				}
				if key == 0 {
					key = exemplarKey(r.records[i].offset(), r.records[i].born)
				}
				s := r.exemplarSlot(offset, key)
				var ok bool
				if e, ok = s.Load(r.reuse.labels); ok {
					fn(k, slot, &e)
				}
			}
		}
		return nil
	}))
}

// exemplarIndex returns the offsets of a series' slots, nil when offset leads to none.
func (r *Reader) exemplarIndex(offset uint64) []uint64 {
	words := r.wordsAt(offset)
	if len(words) == 0 {
		return nil
	}
	head := atomic.LoadUint64(&words[0])
	if n := head >> 32; uint32(head) == auxExemplars && n <= maxExemplarSlots && n < uint64(len(words)) {
		return words[1 : 1+n]
	}
	return nil
}

// exemplarSlot returns the slot at offset, the zero one when there is none.
func (r *Reader) exemplarSlot(offset, key uint64) ExemplarSlot {
	words := r.wordsAt(offset)
	if len(words) < slotFirst {
		return ExemplarSlot{}
	}
	capacity := atomic.LoadUint64(&words[slotCapacity])
	if capacity != smallLabels && capacity != MaxExemplarLabels || slotWords(int(capacity)) > len(words) {
		return ExemplarSlot{}
	}
	return ExemplarSlot{words: words[:slotWords(int(capacity))], capacity: int(capacity), key: key}
}

// HasExemplars reports whether any series had an exemplar when the file was refreshed last.
func (r *Reader) HasExemplars() bool { return r.seen.aux != 0 }

// wordsAt returns the words from offset to the end of the file, none when no word begins there.
func (r *Reader) wordsAt(offset uint64) []uint64 {
	if offset%wordSize != 0 || offset < headerSize || offset/wordSize >= uint64(len(r.memory.Words)) {
		return nil
	}
	return r.memory.Words[offset/wordSize:]
}
