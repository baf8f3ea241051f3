package nativehist

import "math"

// Code is a bucket as one number: empty 0, the zero bucket, or side and number of another one. Codes of one side ascend as
// the bounds' distance from zero does. They are part of the file format.
type Code uint32

const (
	// Zero is the code of the zero bucket.
	Zero Code = 1
	// CodeBits is how many bits a code has at most.
	CodeBits = 21

	negative Code = 1 << (CodeBits - 1)
	offset        = 2 - minFine
)

// CodeOf returns the code of bucket i of one side.
func CodeOf(i int, isNegative bool) Code {
	c := Code(i + offset)
	if isNegative {
		c |= negative
	}
	return c
}

// Negative reports whether the bucket is one of negative values.
func (c Code) Negative() bool { return c&negative != 0 }

// Bucket returns the bucket's number on its side; it means nothing for Zero.
func (c Code) Bucket() int { return int(c&^negative) - offset }

// Valid reports whether a float64 can be in the bucket at a schema.
func (c Code) Valid(schema int) bool {
	if c == Zero {
		return true
	}
	shift := uint(fine - schema)
	i := c.Bucket()
	return c < 2*negative && i >= coarser(minFine, shift) && i <= coarser(lastFine, shift)+1
}

// Coarser returns the code of the bucket that has this one, steps schemas below.
func (c Code) Coarser(steps uint) Code {
	if c == Zero {
		return c
	}
	return CodeOf(coarser(c.Bucket(), steps), c.Negative())
}

// Of returns the code of the bucket of v, which is no NaN and not in the zero bucket, at a schema that is shift below
// MaxSchema.
func Of(v float64, shift uint) Code {
	return Code(Bucket(v, shift)+offset) | Code(math.Float64bits(v)>>63)<<(CodeBits-1)
}
