package aggregate

import (
	"math"
	"math/big"
	"math/bits"
	"sync"
)

// appendFloat appends f as expfmt writes it in the text format, which is as strconv.AppendFloat does with 'g' and -1: the
// shortest decimal that reads back as f, of several the nearest. Most samples are whole numbers, for which one
// conversion does; for the others it is Schubfach (Raffaello Giulietti: The Schubfach way to render doubles, 2020).
func appendFloat(b []byte, f float64) []byte {
	switch {
	case f == 0:
		return append(b, '0') // and so is -0
	case math.IsNaN(f):
		return append(b, "NaN"...)
	case math.IsInf(f, 1):
		return append(b, "+Inf"...)
	case math.IsInf(f, -1):
		return append(b, "-Inf"...)
	case f < 0:
		b, f = append(b, '-'), -f
	}
	// Below 2^53 neighbours are at most 1 apart, so a whole number has no shorter form than its own digits.
	if f < 1<<53 {
		if n := uint64(f); float64(n) == f {
			return appendDecimal(b, n, 0)
		}
	}
	n, exponent := shortest(f)
	return appendDecimal(b, n, exponent)
}

// appendOpenMetricsFloat appends f as expfmt writes it in OpenMetrics, where what would look like an integer ends with ".0".
func appendOpenMetricsFloat(b []byte, f float64) []byte {
	b = appendFloat(b, f)
	if math.Abs(f) < plainLimit && f == math.Trunc(f) {
		b = append(b, ".0"...)
	}
	return b
}

// Where strconv begins to write an exponent: from a million on, and below a ten thousandth.
const (
	plainDigits = 6
	plainLimit  = 1e6
	plainZeros  = -4
)

// appendDecimal appends n * 10^exponent, n above zero, in the form that strconv's 'g' gives the shortest digits. It is no
// whole number below plainLimit unless exponent is 0.
func appendDecimal(b []byte, n uint64, exponent int) []byte {
	if exponent == 0 && n < plainLimit {
		return appendDigits(b, n)
	}
	for n%1e8 == 0 {
		n, exponent = n/1e8, exponent+8
	}
	for n%10 == 0 {
		n, exponent = n/10, exponent+1
	}
	start := len(b)
	// One byte of room for the point, so that the digits before it move and those behind it stay.
	b = appendDigits(append(b, 0), n)
	digits := len(b) - start - 1
	magnitude := digits + exponent - 1 // of the first digit
	switch {
	case magnitude < plainZeros || magnitude >= plainDigits:
		b[start] = b[start+1]
		if digits == 1 {
			b = b[:start+1]
		} else {
			b[start+1] = '.'
		}
		return appendExponent(b, magnitude)
	case magnitude < 0:
		zeros := -magnitude
		b = append(b, "00000"[:zeros]...)
		copy(b[start+1+zeros:], b[start+1:start+1+digits])
		copy(b[start:], "0.0000"[:1+zeros])
		return b
	default:
		copy(b[start:], b[start+1:start+2+magnitude])
		b[start+1+magnitude] = '.'
		return b
	}
}

const pairs = "00010203040506070809" +
	"10111213141516171819" +
	"20212223242526272829" +
	"30313233343536373839" +
	"40414243444546474849" +
	"50515253545556575859" +
	"60616263646566676869" +
	"70717273747576777879" +
	"80818283848586878889" +
	"90919293949596979899"

// appendDigits appends n, above zero.
func appendDigits(b []byte, n uint64) []byte {
	var buf [20]byte
	i := len(buf)
	for n >= 100 {
		p := n % 100 * 2
		n /= 100
		i -= 2
		buf[i], buf[i+1] = pairs[p], pairs[p+1]
	}
	if n >= 10 {
		i -= 2
		buf[i], buf[i+1] = pairs[2*n], pairs[2*n+1]
	} else {
		i--
		buf[i] = '0' + byte(n)
	}
	return append(b, buf[i:]...)
}

// appendExponent appends e and at least two digits.
func appendExponent(b []byte, n int) []byte {
	sign := byte('+')
	if n < 0 {
		sign, n = '-', -n
	}
	b = append(b, 'e', sign)
	if n >= 100 {
		b = append(b, '0'+byte(n/100))
		n %= 100
	}
	return append(b, pairs[2*n], pairs[2*n+1])
}

// mantissaBits is how many bits of a float64 are its mantissa.
const mantissaBits = 52

// shortest returns the shortest decimal n * 10^exponent that is rounded to f, which is finite and above zero; n may end
// with zeros. The names are those of the paper.
func shortest(f float64) (n uint64, exponent int) {
	b := math.Float64bits(f)
	c, q := b&(1<<mantissaBits-1), int(b>>mantissaBits)
	irregular := c == 0 && q > 1 // the neighbour below is nearer than the one above
	if q > 0 {
		c |= 1 << mantissaBits
	} else {
		q = 1
	}
	q -= 1075
	odd := c & 1
	// All that is rounded to f is in (cbl, cbr) * 2^(q-2), with its ends if c is even.
	cb := 4 * c
	cbl, cbr := cb-2, cb+2
	k := q * 1262611 >> 22 // floor(log10(2^q))
	if irregular {
		cbl++
		k = (q*1262611 - 524031) >> 22 // floor(log10(3/4 * 2^q))
	}
	h := q + (-k*1741647)>>19 + 1 // floor(log2(10^-k)) + q + 1
	g := &powers()[-k-minPower]
	vbl, vb, vbr := g.scale(cbl<<h), g.scale(cb<<h), g.scale(cbr<<h)
	lower, upper := vbl+odd, vbr-odd
	s := vb / 4
	if s >= 10 {
		// At most one number with a digit less is in the interval.
		tens := s / 10
		below, above := lower <= 40*tens, 40*tens+40 <= upper
		if below != above {
			if above {
				tens++
			}
			return tens, k + 1
		}
	}
	below, above := lower <= 4*s, 4*s+4 <= upper
	if below == above {
		above = vb > 4*s+2 || vb == 4*s+2 && s&1 != 0
	}
	if above {
		s++
	}
	return s, k
}

// power is a power of ten, rounded up to 128 bits of which the highest is set.
type power struct{ high, low uint64 }

// scale returns the product with c without its 128 lowest bits, and with the lowest bit that is left set if any of those
// below it was: so what is compared with it comes out as with the exact product.
func (p *power) scale(c uint64) uint64 {
	x, _ := bits.Mul64(p.low, c)
	high, low := bits.Mul64(p.high, c)
	low, carry := bits.Add64(low, x, 0)
	high += carry
	if low > 1 {
		high |= 1
	}
	return high
}

// Powers of ten that float64s need.
const (
	minPower = -292
	maxPower = 324
)

// powers are those from minPower on. They are made when the first fraction is printed.
var powers = sync.OnceValue(func() *[maxPower - minPower + 1]power {
	all := new([maxPower - minPower + 1]power)
	low := new(big.Int).SetUint64(math.MaxUint64)
	for i := range all {
		n := i + minPower
		v := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(n, -n))), nil)
		if length := v.BitLen(); n < 0 {
			// v is no power of two, so the quotient has a remainder.
			v.Quo(new(big.Int).Lsh(big.NewInt(1), uint(127+length)), v)
			v.Add(v, big.NewInt(1))
		} else if length <= 128 {
			v.Lsh(v, uint(128-length))
		} else {
			// Rounded up unless nothing is lost.
			v.Sub(v, big.NewInt(1)).Rsh(v, uint(length-128)).Add(v, big.NewInt(1))
		}
		all[i] = power{new(big.Int).Rsh(v, 64).Uint64(), new(big.Int).And(v, low).Uint64()}
	}
	return all
})
