// Package exactsum adds float64s without error, so that the sum of what many processes have counted does not depend on the order in which
// they are read.
package exactsum

import (
	"math"
	"math/bits"
)

// Sum adds float64s without error and rounds once, in Value: to the nearest, ties to even, as Python's math.fsum. So it
// does not depend on the order or the grouping of what is added, which a naive sum does, and Prometheus takes any fall of
// a counter for a restart. The zero value is an empty sum.
//
// As long as two words hold the sum exactly it is hi + lo, kept by error-free transformation (Knuth's TwoSum); from
// the first number on that does not fit it is in a wideSum, which is allocated once and reused.
type Sum struct {
	hi, lo float64
	wide   *wideSum
}

// sumLimit is where a number goes to the wide sum at once, NaN and infinities among them: below it no partial sum of
// less than 2^60 numbers can overflow.
const sumLimit = 0x1p960

// Add adds x.
func (s *Sum) Add(x float64) {
	if !(math.Abs(x) < sumLimit) || s.wide != nil && s.wide.used {
		s.addWide(x)
		return
	}
	t, e1 := twoSum(s.lo, x)
	hi, e2 := twoSum(s.hi, t)
	lo, e3 := twoSum(e2, e1)
	if e3 != 0 {
		s.addWide(x)
		return
	}
	s.hi, s.lo = twoSum(hi, lo)
}

// AddWhole adds the whole number hi*2^64 + lo.
func (s *Sum) AddWhole(hi, lo uint64) {
	// Each of the three parts is a float64 without rounding.
	const mask = 1<<53 - 1
	s.Add(float64(lo & mask))
	s.Add(float64((lo>>53|hi<<11)&mask) * 0x1p53)
	s.Add(float64(hi>>42) * 0x1p106)
}

func (s *Sum) addWide(x float64) {
	s.widen()
	s.wide.add(x)
}

// widen moves the sum to the wide one.
func (s *Sum) widen() {
	if s.wide == nil {
		s.wide = new(wideSum)
	}
	if !s.wide.used {
		s.wide.used = true
		s.wide.add(s.hi)
		s.wide.add(s.lo)
		s.hi, s.lo = 0, 0
	}
}

// Value returns the sum, rounded. With a NaN among what was added, or infinities of both signs, it is NaN, with
// infinities of one sign that infinity; an infinity also when the rounded sum is beyond the largest float64. A sum of
// nothing, or of zeros of any sign, is +0.
func (s *Sum) Value() float64 {
	if s.wide != nil && s.wide.used {
		return s.wide.value()
	}
	return s.hi + s.lo
}

// Finite reports whether neither a NaN nor an infinity was added.
func (s *Sum) Finite() bool {
	return s.wide == nil || !s.wide.nan && s.wide.inf == [2]bool{}
}

// Empty reports whether nothing but zeros was added.
func (s *Sum) Empty() bool { return s.hi == 0 && (s.wide == nil || !s.wide.used) }

// Reset makes the sum an empty one.
func (s *Sum) Reset() {
	s.hi, s.lo = 0, 0
	if s.wide != nil && s.wide.used {
		*s.wide = wideSum{}
	}
}

// twoSum returns the rounded sum of a and b and what the rounding lost.
func twoSum(a, b float64) (sum, lost float64) {
	sum = a + b
	t := sum - a
	return sum, (a - (sum - t)) + (b - t)
}

// wideSum is a sum of any float64s as one integer in two's complement, in units of the smallest float64, 2^-1074. The
// largest one has 2098 bits; the rest is room for 2^200 of them.
type wideSum struct {
	words [36]uint64
	used  bool
	nan   bool
	inf   [2]bool // positive, negative
}

const (
	mantissaBits = 52
	exponentInf  = 0x7ff
)

func (w *wideSum) add(x float64) {
	b := math.Float64bits(x)
	mantissa, exponent := b&(1<<mantissaBits-1), b>>mantissaBits&exponentInf
	negative := b >> 63
	switch exponent {
	case exponentInf:
		if mantissa != 0 {
			w.nan = true
		} else {
			w.inf[negative] = true
		}
		return
	case 0:
		// Subnormal numbers have the same unit as the smallest normal ones.
		exponent = 1
	default:
		mantissa |= 1 << mantissaBits
	}
	shift := exponent - 1
	i := shift / 64
	low, high := mantissa<<(shift%64), mantissa>>(64-shift%64)
	var carry uint64
	if negative == 0 {
		w.words[i], carry = bits.Add64(w.words[i], low, 0)
		w.words[i+1], carry = bits.Add64(w.words[i+1], high, carry)
		for i += 2; carry != 0 && i < uint64(len(w.words)); i++ {
			w.words[i], carry = bits.Add64(w.words[i], 0, carry)
		}
		return
	}
	w.words[i], carry = bits.Sub64(w.words[i], low, 0)
	w.words[i+1], carry = bits.Sub64(w.words[i+1], high, carry)
	for i += 2; carry != 0 && i < uint64(len(w.words)); i++ {
		w.words[i], carry = bits.Sub64(w.words[i], 0, carry)
	}
}

func (w *wideSum) value() float64 {
	switch {
	case w.nan || w.inf[0] && w.inf[1]:
		return math.NaN()
	case w.inf[0]:
		return math.Inf(1)
	case w.inf[1]:
		return math.Inf(-1)
	}
	magnitude := w.words
	sign := magnitude[len(magnitude)-1] >> 63
	if sign != 0 {
		var borrow uint64
		for i, word := range magnitude {
			magnitude[i], borrow = bits.Sub64(0, word, borrow)
		}
	}
	top := len(magnitude) - 1
	for top > 0 && magnitude[top] == 0 {
		top--
	}
	length := top*64 + bits.Len64(magnitude[top])
	if length <= mantissaBits+1 {
		// The unit and the encoding of subnormal and of the smallest normal numbers are the same.
		return math.Float64frombits(sign<<63 | magnitude[0])
	}
	shift := length - (mantissaBits + 1)
	i, off := shift/64, uint(shift%64)
	mantissa := magnitude[i] >> off
	if i+1 < len(magnitude) {
		mantissa |= magnitude[i+1] << (64 - off)
	}
	half := magnitude[(shift-1)/64] >> ((shift - 1) % 64) & 1
	if half != 0 && (mantissa&1 != 0 || anyBit(magnitude[:], shift-1)) {
		mantissa++
	}
	// The mantissa's implicit bit adds one to the exponent, and so does its rounding up to 2^53.
	b := uint64(shift)<<mantissaBits + mantissa
	return math.Float64frombits(sign<<63 | min(b, exponentInf<<mantissaBits))
}

// anyBit reports whether one of the n lowest bits is set.
func anyBit(words []uint64, n int) bool {
	for _, word := range words[:n/64] {
		if word != 0 {
			return true
		}
	}
	return words[n/64]&(1<<(n%64)-1) != 0
}
