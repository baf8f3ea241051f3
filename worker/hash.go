package worker

import (
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
)

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
