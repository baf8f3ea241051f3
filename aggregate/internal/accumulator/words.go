package accumulator

import "github.com/onescrape/onescrape/aggregate/internal/exactsum"

// wordReader takes words off a list. If they do not suffice, it is bad and returns zeros.
type wordReader struct {
	w   []uint64
	bad bool
}

func (r *wordReader) next() uint64 {
	if len(r.w) == 0 {
		r.bad = true
		return 0
	}
	v := r.w[0]
	r.w = r.w[1:]
	return v
}

func (r *wordReader) counts(counts []uint64) {
	for i := range counts {
		counts[i] = r.next()
	}
}

func (r *wordReader) sum() (s exactsum.Sum) {
	n := r.next()
	if n > uint64(len(r.w)) || !s.FromWords(r.w[:n]) {
		r.bad = true
		return exactsum.Sum{}
	}
	r.w = r.w[n:]
	return s
}

// flag is a bool as a word.
func flag(set bool) uint64 {
	if set {
		return 1
	}
	return 0
}
