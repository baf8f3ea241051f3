package shmstore

import (
	"encoding/binary"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
)

// PackedSeries are archived series as a file holds them. To decode a series costs about ten times what it costs to copy its
// bytes, so a fold decodes only the series that it changes. A PackedSeries never changes and may be shared.
type PackedSeries struct {
	labels    int
	n         int
	series    []byte // one behind the other
	exemplars []byte // the parts that hold their exemplars
}

// Len returns how many series there are.
func (p PackedSeries) Len() int { return p.n }

// Same reports whether o holds the same bytes.
func (p PackedSeries) Same(o PackedSeries) bool {
	return p.n == o.n && p.labels == o.labels && string(p.series) == string(o.series) && string(p.exemplars) == string(o.exemplars)
}

// AppendPackedValues appends label values as a PackedSeries holds them. Different lists of equal length give different bytes.
func AppendPackedValues(b []byte, values []string) []byte {
	for _, v := range values {
		b = encoding.AppendString(b, v)
	}
	return b
}

// Sizes of the parts of a packed series, behind its label values.
const (
	packedCreated = 0
	packedAge     = 8
	packedWords   = 16 // their number
	packedHead    = 20
)

// packedSize returns how many of the bytes of b the label values of the first series take, and how many all of it takes;
// all is 0 when b ends before the series does. fits reports whether the values pass CheckValue.
func packedSize(b []byte, labels int) (values, all int, fits bool) {
	at := 0
	fits = true
	for range labels {
		if at >= len(b) {
			return 0, 0, false
		}
		n, size := uint64(b[at]), 1
		if n >= utf8.RuneSelf {
			if n, size = binary.Uvarint(b[at:]); size <= 0 || n > encoding.MaxString {
				return 0, 0, false
			}
		}
		at += size
		if n > uint64(len(b)-at) {
			return 0, 0, false
		}
		fits = fits && utf8.Valid(b[at:at+int(n)])
		at += int(n)
	}
	if len(b)-at < packedHead {
		return 0, 0, false
	}
	words := uint64(encoding.Native.Uint32(b[at+packedWords:]))
	if words > uint64(len(b)-at-packedHead)/wordSize {
		return 0, 0, false
	}
	return at, at + packedHead + int(words)*wordSize, fits
}

// takePacked takes n series off d. Those whose label values fail CheckValue are left out; places then says where each of the
// n is among the rest, -1 for one that is left out.
// text is how many bytes their label values have.
func takePacked(d *encoding.Decoder, labels int, n uint32) (p PackedSeries, places []int32, text int64) {
	p.labels = labels
	b, at := d.B, 0
	for i := range n {
		values, size, fits := packedSize(b[at:], labels)
		if size == 0 {
			d.Bad = true
			return p, nil, 0
		}
		text += int64(values)
		switch {
		case !fits && places == nil:
			places = make([]int32, i, i+1)
			for j := range places {
				places[j] = int32(j)
			}
			p.series = slices.Clone(b[:at])
			places = append(places, -1)
		case !fits:
			places = append(places, -1)
		case places != nil:
			p.series = append(p.series, b[at:at+size]...)
			places = append(places, int32(p.n))
			p.n++
		default:
			p.n++
		}
		at += size
	}
	if places == nil {
		p.series = b[:at:at]
	}
	d.B = b[at:]
	return p, places, text
}

// decodePacked decodes the first series of b, whose size is known to be right.
func decodePacked(b []byte, labels int) ArchivedSeries {
	var s ArchivedSeries
	values, _, _ := packedSize(b, labels)
	text := string(b[:values]) // of which the values are parts
	if labels > 0 {
		s.Values = make([]string, labels)
	}
	at := 0
	for i := range s.Values {
		n, size := binary.Uvarint(b[at:])
		s.Values[i] = text[at+size : at+size+int(n)]
		at += size + int(n)
	}
	d := encoding.Decoder{B: b[values:]}
	s.Created = time.Unix(0, int64(d.Uint64()))
	s.Age = time.Duration(d.Uint64())
	words := d.Take(wordSize * uint64(d.Uint32()))
	s.Words = make([]uint64, len(words)/wordSize)
	for i := range s.Words {
		s.Words[i] = encoding.Native.Uint64(words[i*wordSize:])
	}
	return s
}

func appendArchivedSeries(b []byte, s *ArchivedSeries) []byte {
	b = AppendPackedValues(b, s.Values)
	b = encoding.AppendUint64(b, uint64(s.Created.UnixNano()))
	b = encoding.AppendUint64(b, uint64(s.Age))
	b = encoding.AppendUint32(b, uint32(len(s.Words)))
	for _, w := range s.Words {
		b = encoding.AppendUint64(b, w)
	}
	return b
}

// each calls do with the number, the packed label values and all bytes of each series.
func (p PackedSeries) each(do func(i int, values, all []byte)) {
	b := p.series
	for i := range p.n {
		values, size, _ := packedSize(b, p.labels)
		do(i, b[:values], b[:size])
		b = b[size:]
	}
}

// All decodes all series.
func (p PackedSeries) All() []ArchivedSeries {
	if p.n == 0 {
		return nil
	}
	all := make([]ArchivedSeries, 0, p.n)
	p.each(func(_ int, _, b []byte) { all = append(all, decodePacked(b, p.labels)) })
	p.eachExemplar(func(i uint32, e Exemplar, _ []byte) { all[i].Exemplars = append(all[i].Exemplars, e) })
	return all
}

// Take returns the series of which want is true, decoded, and the others, whose bytes are copied; p itself, when want is
// never true. want gets the label values as AppendPackedValues makes them, which it must not keep.
func (p PackedSeries) Take(want func(values []byte) bool) (taken []ArchivedSeries, rest PackedSeries) {
	places := p.without(&rest, func(_ int, values, b []byte) bool {
		if !want(values) {
			return false
		}
		taken = append(taken, decodePacked(b, p.labels))
		return true
	})
	if len(taken) == 0 {
		return nil, p
	}
	p.eachExemplar(func(i uint32, e Exemplar, _ []byte) {
		if to := places[i]; to < 0 {
			taken[-1-to].Exemplars = append(taken[-1-to].Exemplars, e)
		}
	})
	return taken, rest
}

// without makes rest what remains without the series of which over is true; what else it holds may be nonsense then, when
// over is never true. It returns where each series is in rest, or -1 - k for the one with the number k among the others.
func (p PackedSeries) without(rest *PackedSeries, over func(i int, values, b []byte) bool) (places []int32) {
	kept, at, gone := 0, 0, 0 // bytes before kept are in rest.series
	rest.labels = p.labels
	note := func(place int32) {
		if len(p.exemplars) > 0 {
			places = append(places, place)
		}
	}
	p.each(func(i int, values, b []byte) {
		if over(i, values, b) {
			if rest.series == nil {
				rest.series = make([]byte, 0, len(p.series))
			}
			rest.series = append(rest.series, p.series[kept:at]...)
			kept = at + len(b)
			note(int32(-1 - gone))
			gone++
		} else {
			note(int32(rest.n))
			rest.n++
		}
		at += len(b)
	})
	if gone == 0 {
		return places
	}
	rest.series = append(rest.series, p.series[kept:]...)
	p.eachExemplar(func(i uint32, _ Exemplar, part []byte) {
		if places[i] >= 0 {
			rest.exemplars = append(rest.exemplars, part...)
			encoding.Native.PutUint32(rest.exemplars[len(rest.exemplars)-len(part)+packedExemplarOf:], uint32(places[i]))
		}
	})
	return places
}

// Age adds passed to the age of each series of which touched is false, makes that of the others zero, and leaves out those
// that reach limit.
func (p PackedSeries) Age(passed, limit time.Duration, touched func(values []byte) bool) PackedSeries {
	aged := p
	aged.series = slices.Clone(p.series)
	over, any := make([]bool, p.n), false
	aged.each(func(i int, values, b []byte) {
		age := time.Duration(0)
		if !touched(values) {
			age = time.Duration(encoding.Native.Uint64(b[len(values)+packedAge:])) + passed
		}
		encoding.Native.PutUint64(b[len(values)+packedAge:], uint64(age))
		over[i] = age >= limit
		any = any || over[i]
	})
	if !any {
		return aged
	}
	var rest PackedSeries
	aged.without(&rest, func(i int, _, _ []byte) bool { return over[i] })
	return rest
}

// A part that holds an exemplar: its tag, the number of the series, value and time, and the length of the labels.
const (
	packedExemplarOf     = 2
	packedExemplarValue  = 6
	packedExemplarLength = 22
	packedExemplarHead   = 26
)

// eachExemplar calls do with each exemplar, the number of its series, and its part.
func (p PackedSeries) eachExemplar(do func(i uint32, e Exemplar, part []byte)) {
	for b := p.exemplars; len(b) > 0; {
		size := packedExemplarHead + int(encoding.Native.Uint32(b[packedExemplarLength:]))
		d := encoding.Decoder{B: b[packedExemplarValue:packedExemplarLength]}
		e := Exemplar{Value: d.Float(), At: int64(d.Uint64()), Labels: b[packedExemplarHead:size:size]}
		do(encoding.Native.Uint32(b[packedExemplarOf:]), e, b[:size])
		b = b[size:]
	}
}

func appendArchivedExemplar(b []byte, i int, e *Exemplar) []byte {
	b = encoding.Native.AppendUint16(b, arcTagExemplar)
	b = encoding.AppendUint32(b, uint32(i))
	b = encoding.AppendFloat(b, e.Value)
	b = encoding.AppendUint64(b, uint64(e.At))
	b = encoding.AppendUint32(b, uint32(len(e.Labels)))
	return append(b, e.Labels...)
}
