package aggregate

import (
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/onescrape/onescrape/shmstore"
)

// tally adds up the counters of all rows of a family, as counter does those of one, and as exactly: nearly all that is
// counted are whole numbers and fractions between 2^-12 and 2^52, of which no bit is below 2^-64. These are added as
// integers of 128 bits; only what does not fit is left to the slower sums of counter.
type tally struct {
	low, fractions []uint64  // by row: what is above 1, and what is below it in units of 2^-64
	rest           []counter // by row: what these have no place for; nil or zero unless some
	some           bool
}

// grow adds a row.
func (t *tally) grow() {
	t.low, t.fractions = append(t.low, 0), append(t.fractions, 0)
	if t.rest != nil {
		t.rest = append(t.rest, counter{})
	}
}

// more returns what the other words have no place for.
func (t *tally) more(row int32) *counter {
	if t.rest == nil {
		t.rest = make([]counter, len(t.low))
	}
	t.some = true
	return &t.rest[row]
}

func (t *tally) addWhole(row int32, n, carry uint64) {
	if t.low[row], carry = bits.Add64(t.low[row], n, carry); carry != 0 {
		t.more(row).high++
	}
}

// leastFraction is the exponent, as a float64 has it, of 2^-12: the last bit of its mantissa is 2^-64.
const leastFraction = 1011

// addOdd adds a process's two cells that are not just a whole number. It returns false, and adds nothing, when one of them
// cannot be.
func (t *tally) addOdd(row int32, whole, fraction uint64) bool {
	if whole >= tooLarge || !possibleFraction(fraction) {
		return false
	}
	t.addWhole(row, whole, 0)
	t.addFraction(row, fraction)
	return true
}

// addFraction adds a process's second cell, which must be possible.
func (t *tally) addFraction(row int32, cell uint64) {
	shift := cell>>mantissaBits - leastFraction
	if shift >= 64 {
		t.more(row).addFraction(cell)
		return
	}
	mantissa := cell&(1<<mantissaBits-1) | 1<<mantissaBits
	var carry uint64
	t.fractions[row], carry = bits.Add64(t.fractions[row], mantissa<<shift, 0)
	t.addWhole(row, mantissa>>(64-shift), carry)
}

// add adds all that was added to o.
func (t *tally) add(row int32, o *counter) {
	t.addWhole(row, o.low, 0)
	if o.high != 0 || !o.fraction.Empty() {
		c := t.more(row)
		c.high += o.high
		c.fraction.AddSum(&o.fraction)
	}
}

// totals makes the sums of all rows, after which there must be a reset.
func (t *tally) totals(values []float64) {
	for i, n := range t.low {
		values[i] = rounded(n, t.fractions[i])
	}
	if !t.some {
		return
	}
	for i := range t.rest {
		c := &t.rest[i]
		if c.high == 0 && c.fraction.Empty() {
			continue
		}
		// Each half of the fractions is a float64 without rounding.
		c.fraction.Add(float64(t.fractions[i]>>32) * 0x1p-32)
		c.fraction.Add(float64(t.fractions[i]&math.MaxUint32) * 0x1p-64)
		c.low = t.low[i]
		values[i] = c.total()
	}
}

// rounded returns whole + fraction * 2^-64, to the nearest, ties to even.
func rounded(whole, fraction uint64) float64 {
	if fraction == 0 {
		return float64(whole)
	}
	zeros := bits.LeadingZeros64(whole)
	high, low := whole<<zeros|fraction>>(64-zeros), fraction<<zeros
	if low != 0 {
		// The conversion rounds below this bit's place, and has to see that there is more.
		high |= 1
	}
	return float64(high) * math.Float64frombits(uint64(1023-zeros)<<mantissaBits) // times 2^-zeros
}

func (t *tally) reset() {
	clear(t.low)
	clear(t.fractions)
	if !t.some {
		return
	}
	for i := range t.rest {
		t.rest[i].reset()
	}
	t.some = false
}

// addCounters adds a process's cells and returns how many series were rejected. The rows of the others are marked. They are where the runs say, or packed: a copy in
// which those of each run follow those of the run before.
func (f *family) addCounters(runs []run, cells []uint64, packed bool, mark presence) (bad int) {
	t := &f.tally
	var rows span
	for _, r := range runs {
		from, stride := cells, shmstore.CounterWords
		if packed {
			cells = cells[int(r.n)*stride:]
		} else {
			from, stride = cells[r.cell:], runStride
		}
		if rows.end != r.row {
			f.mark(rows, mark)
			rows.begin = r.row
		}
		rows.end = r.row + r.n
		low := t.low[r.row:][:r.n]
		for i := range low {
			pair := (*[shmstore.CounterWords]uint64)(from[i*stride:])
			whole := atomic.LoadUint64(&pair[shmstore.CounterInteger])
			fraction := atomic.LoadUint64(&pair[shmstore.CounterFloat])
			if sum := low[i] + whole; fraction == 0 && sum >= whole && whole < tooLarge {
				low[i] = sum
			} else if row := r.row + int32(i); !t.addOdd(row, whole, fraction) {
				bad++
				f.mark(span{rows.begin, row}, mark)
				f.presence[row] |= mark &^ counted
				rows.begin = row + 1
			}
		}
	}
	f.mark(rows, mark)
	return bad
}

// span is from one row up to another.
type span struct{ begin, end int32 }

// mark marks rows. Processes of one program mostly have the same series, so these are likely to be those that were marked
// before.
func (f *family) mark(rows span, mark presence) {
	if rows.begin == rows.end || f.marked == rows && f.markedWith == mark {
		return
	}
	f.marked, f.markedWith = rows, mark
	marks := f.presence[rows.begin:rows.end]
	for i := range marks {
		marks[i] |= mark
	}
}
