package nativehist

import (
	"maps"
	"math"
	"math/bits"
	"slices"

	dto "github.com/prometheus/client_model/go"
)

// Counts are native histograms, added up: at the coarsest schema among them, with the widest zero bucket. What comes out
// does not depend on the order, nor on what was added up before. The zero value has nothing yet. It is for one goroutine at
// a time.
type Counts struct {
	// Schema is the coarsest of what was added. It means nothing before a histogram was.
	Schema int
	// Threshold is the largest zero threshold of what was added.
	Threshold float64
	// Mixed reports whether thresholds differed. Then the zero bucket ends with the bucket that has the largest of them, for
	// nobody knows which part of that one belongs to it.
	Mixed bool
	// Some reports whether a histogram was added. Without one, buckets that were are at the finest schema.
	Some bool
	// Buckets are the counts, at Schema.
	Buckets map[Code]uint64
	// NaNs is how many observations are in no bucket.
	NaNs uint64
}

// Reset makes it the zero value, and keeps the space.
func (c *Counts) Reset() {
	clear(c.Buckets)
	*c = Counts{Buckets: c.Buckets}
}

func (c *Counts) schema() int {
	if c.Some {
		return c.Schema
	}
	return MaxSchema
}

// Begin says that a histogram of this schema and zero threshold is about to be added, and returns the steps by which its
// codes have to become Coarser.
func (c *Counts) Begin(schema int, threshold float64, mixed bool) (steps uint) {
	if schema < c.schema() {
		c.reduce(uint(c.schema() - schema))
		c.Schema = schema
	} else if !c.Some {
		c.Schema = MaxSchema
	}
	switch {
	case !c.Some:
		c.Threshold, c.Mixed = threshold, mixed
	case c.Threshold != threshold || mixed:
		c.Threshold, c.Mixed = max(c.Threshold, threshold), true
	}
	c.Some = true
	return uint(schema - c.Schema)
}

// reduce makes the buckets those of a schema that is steps below.
func (c *Counts) reduce(steps uint) {
	old := c.Buckets
	if len(old) == 0 {
		return
	}
	c.Buckets = make(map[Code]uint64, len(old))
	for code, n := range old {
		c.Add(code.Coarser(steps), n)
	}
}

// Add adds n observations to a bucket at Schema.
func (c *Counts) Add(code Code, n uint64) {
	if c.Buckets == nil {
		c.Buckets = map[Code]uint64{}
	}
	c.Buckets[code] = addSaturated(c.Buckets[code], n)
}

// AddUpTo adds n observations that are known only to be no larger than v. They count as v.
func (c *Counts) AddUpTo(v float64, n uint64) {
	switch {
	case n == 0:
	case v == 0:
		c.Add(Zero, n)
	default:
		c.Add(Of(v, uint(MaxSchema-c.schema())), n)
	}
}

// AddCounts adds all that was added to o.
func (c *Counts) AddCounts(o *Counts) {
	steps := uint(0)
	if o.Some {
		steps = c.Begin(o.Schema, o.Threshold, o.Mixed)
	} else {
		steps = uint(MaxSchema - c.schema())
	}
	for code, n := range o.Buckets {
		c.Add(code.Coarser(steps), n)
	}
	c.NaNs = addSaturated(c.NaNs, o.NaNs)
}

// ZeroThreshold returns the merged zero threshold.
func (c *Counts) ZeroThreshold() float64 {
	if !c.Mixed || c.Threshold == 0 {
		return c.Threshold
	}
	return min(Upper(Bucket(c.Threshold, uint(MaxSchema-c.schema())), c.schema()), math.MaxFloat64)
}

// Total returns the number of all observations.
func (c *Counts) Total() uint64 {
	total := c.NaNs
	for _, n := range c.Buckets {
		total = addSaturated(total, n)
	}
	return total
}

// Each calls fn with the largest value that a bucket can have, of every bucket that counts something.
func (c *Counts) Each(fn func(upper float64, n uint64)) {
	for code, n := range c.Buckets {
		fn(c.largest(code), n)
	}
}

func (c *Counts) largest(code Code) float64 {
	switch {
	case code == Zero:
		return c.Threshold
	case !code.Negative():
		return Upper(code.Bucket(), c.schema())
	default:
		// The bound that is nearer to zero, which all of the bucket's values are less than.
		return -Upper(code.Bucket()-1, c.schema())
	}
}

// Codes returns the buckets in ascending order of their codes.
func (c *Counts) Codes() []Code { return slices.Sorted(maps.Keys(c.Buckets)) }

// Write sets the native part of h, which is as client_golang would have written it: the count, schema, zero bucket, spans
// and deltas.
func (c *Counts) Write(h *dto.Histogram) {
	threshold := c.ZeroThreshold()
	within := math.MinInt // the last bucket that is part of the zero bucket
	if threshold > 0 {
		if within = Bucket(threshold, uint(MaxSchema-c.schema())); Upper(within, c.schema()) > threshold {
			within--
		}
	}
	zero := uint64(0)
	var sides [2][]bucket
	for _, code := range c.Codes() {
		n := c.Buckets[code]
		i := code.Bucket()
		if code == Zero || i <= within {
			zero = addSaturated(zero, n)
			continue
		}
		side := 0
		if code.Negative() {
			side = 1
		}
		sides[side] = append(sides[side], bucket{i, int64(min(n, math.MaxInt64))})
	}
	h.Schema, h.ZeroThreshold, h.ZeroCount = new(int32(c.schema())), &threshold, &zero
	h.PositiveSpan, h.PositiveDelta = spans(sides[0])
	h.NegativeSpan, h.NegativeDelta = spans(sides[1])
	if threshold == 0 && zero == 0 && len(sides[0])+len(sides[1]) == 0 {
		// Nothing else would tell it from a classic one.
		h.PositiveSpan = []*dto.BucketSpan{{Offset: new(int32(0)), Length: new(uint32(0))}}
	}
}

type bucket struct {
	number int
	count  int64
}

// maxGap is how many empty buckets are written out rather than another span begun, as client_golang does.
const maxGap = 2

// spans returns the exposition's form of buckets in ascending order.
func spans(buckets []bucket) (spans []*dto.BucketSpan, deltas []int64) {
	last, next := int64(0), 0
	add := func(n int64) {
		*spans[len(spans)-1].Length++
		deltas = append(deltas, n-last)
		last = n
	}
	for i, b := range buckets {
		gap := b.number - next
		if i == 0 || gap > maxGap {
			spans = append(spans, &dto.BucketSpan{Offset: new(int32(gap)), Length: new(uint32(0))})
			gap = 0
		}
		for range gap {
			add(0)
		}
		add(b.count)
		next = b.number + 1
	}
	return spans, deltas
}

// addSaturated stops at the largest number, as everywhere in the merge.
func addSaturated(a, b uint64) uint64 {
	s, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return s
}
