package exactsum

import (
	"math"
	"math/bits"
)

// wideWords is how many words a wideSum is archived as: its own, and one for what is not finite.
const wideWords = len(wideSum{}.words) + 1

// AppendWords appends the number of words that the sum takes and the words.
func (s *Sum) AppendWords(w []uint64) []uint64 {
	switch {
	case s.wide != nil && s.wide.used:
		w = append(w, uint64(wideWords))
		w = append(w, s.wide.words[:]...)
		odd := uint64(0)
		for i, set := range []bool{s.wide.nan, s.wide.inf[0], s.wide.inf[1]} {
			if set {
				odd |= 1 << i
			}
		}
		return append(w, odd)
	case s.hi == 0 && s.lo == 0:
		return append(w, 0)
	default:
		return append(w, 2, math.Float64bits(s.hi), math.Float64bits(s.lo))
	}
}

// FromWords makes an empty sum what AppendWords wrote, without the number of words; false when that is none.
func (s *Sum) FromWords(w []uint64) bool {
	switch len(w) {
	case 0:
		return true
	case 2:
		s.Add(math.Float64frombits(w[0]))
		s.Add(math.Float64frombits(w[1]))
		return true
	case wideWords:
		s.wide = &wideSum{used: true}
		copy(s.wide.words[:], w)
		odd := w[wideWords-1]
		s.wide.nan, s.wide.inf[0], s.wide.inf[1] = odd&1 != 0, odd&2 != 0, odd&4 != 0
		return true
	default:
		return false
	}
}

// AddSum adds all that was added to o.
func (s *Sum) AddSum(o *Sum) {
	if o.wide == nil || !o.wide.used {
		s.Add(o.hi)
		s.Add(o.lo)
		return
	}
	s.widen()
	s.wide.addSum(o.wide)
}

// addSum adds all that was added to o.
func (w *wideSum) addSum(o *wideSum) {
	w.nan = w.nan || o.nan
	w.inf[0], w.inf[1] = w.inf[0] || o.inf[0], w.inf[1] || o.inf[1]
	var carry uint64
	for i, word := range o.words {
		w.words[i], carry = bits.Add64(w.words[i], word, carry)
	}
}
