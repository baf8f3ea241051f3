package aggregate

import (
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"sort"
	"strings"
	"sync/atomic"

	"github.com/onescrape/onescrape/aggregate/internal/accumulator"
	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
)

// contribution is one origin's definition of a family with the origin's series of it: the part of the plan that says which of
// its cells add into which row of the family. It is kept between scrapes; only the cells are read anew.
type contribution struct {
	origin *origin.Origin
	reader reader // nil: the archive's
	number int    // in its file; of two definitions of one family in one file the later counts
	def    shmstore.Family

	family    *family // nil: the definition is not usable
	outranked bool    // the family is ruled by a definition that this one cannot be merged with
	stale     bool    // shown and hidden are to be made anew
	shown     entries
	hidden    entries // deleted; for gauges only where that says something about a row
	carry     []int32 // of each bucket, the bucket of the family that takes its count; nil: the same
	series    uint64  // sum of the series' fingerprints
	next      int32   // the row where the next series is likely to be

	archived []archivedSeries // instead of cells, when it is the archive's
}

// usable tells whether a definition is one that client libraries let pass: a file may have been made by anything.
func usable(def *shmstore.Family) bool {
	return !def.TooLong() && !slices.ContainsFunc(def.Labels, func(l string) bool {
		return strings.HasPrefix(l, "__") || def.Type == shmstore.HistogramType && l == "le" ||
			def.Type == shmstore.SummaryType && l == "quantile"
	})
}

// add plans series number i of the file.
func (d *contribution) add(i int, s *shmstore.SeriesInfo) {
	if d.outranked || s.Free {
		return
	}
	var buf [256]byte
	var key []byte
	var hash uint64
	known := d.family.sameSeries(d.next, d, s)
	if known {
		hash = d.family.rows[d.next].hash
	} else {
		key = identity(buf[:0], d.def.Labels, s.Values)
		hash = maphash.Bytes(seed, key)
	}
	d.series += fingerprint(i, s, hash)
	deleted := s.Hidden && (!s.Late || s.Fresh && !known && !d.family.had(key))
	if deleted && d.family.rule.Mode != 0 || s.Release > 0 && s.Release <= d.origin.ArchivedThrough {
		return
	}
	e := entry{series: int32(i), cell: int32(s.Cell), row: d.next}
	if known {
		d.family.keepRow(e.row, s)
	} else {
		e.row = d.family.take(d, s, key, hash)
	}
	d.next = e.row + 1
	if deleted {
		d.hidden.add(e)
	} else {
		d.shown.add(e)
	}
}

// clear forgets all series.
func (d *contribution) clear() {
	for _, list := range [2]*entries{&d.shown, &d.hidden} {
		for _, row := range list.rows {
			d.family.drop(row)
		}
		list.clear()
	}
	d.series = 0
}

// adapt makes the contribution fit the family's rule, whose series it then has none of.
func (d *contribution) adapt(lost bool) {
	d.outranked, d.stale = lost, true
	d.shown, d.hidden, d.series, d.carry = entries{}, entries{}, 0, nil
	if !lost && d.def.Type == shmstore.HistogramType {
		d.carry = carryOver(d.def.Bounds, d.family.rule.Bounds)
	}
}

// carryOver returns, for each bucket of the old bounds, the number of the bucket with the smallest new bound that holds
// all of it; nil when the bounds are the same.
func carryOver(old, new []float64) []int32 {
	carry := make([]int32, len(old)+1)
	same := len(old) == len(new)
	for i, bound := range old {
		j := sort.SearchFloat64s(new, bound)
		same = same && j == i && new[j] == bound
		carry[i] = int32(j)
	}
	carry[len(old)] = int32(len(new))
	if same {
		return nil
	}
	return carry
}

var seed = maphash.MakeSeed()

// fingerprint is another number, nearly certainly, for anything that the plan takes from a series. The sum of a
// contribution's tells whether something changed, without a copy of every label value. The hash is that of its identity.
func fingerprint(i int, s *shmstore.SeriesInfo, hash uint64) uint64 {
	number := uint64(i) << 1
	if s.Hidden && !s.Late {
		number |= 1
	}
	// Two rounds of multiplying to 128 bits, which mix each bit of one factor into all of the result.
	high, low := bits.Mul64(hash^number, 0x9e37_79b9_7f4a_7c15)
	high, low = bits.Mul64(high^low^uint64(s.Cell), 0xd6e8_feb8_6659_fd93)
	return high ^ low
}

// contributes reports whether anything of the contribution counts in this pass.
func (d *contribution) contributes() bool {
	switch {
	case d.outranked, d.family.rule.Mode.Live() && !d.origin.Alive:
		return false
	case d.archived != nil && d.family.rule.Mode.Base() == shmstore.All && d.def.Mode != shmstore.All:
		return false // nobody knows any more which slot it came from
	default:
		return d.family.slotOwners == nil || d.family.slotOwners[d.origin.Info.Slot] == d.origin
	}
}

// Cells are read in two steps, because what was read counts only after the reader has said that it held still: load
// copies the cells of the series, those of hidden ones first, and merge adds the copies to the family's rows. Counters,
// which most series are, are added without a copy as long as all files hold still.

func (d *contribution) load(words, buf []uint64) []uint64 {
	n := d.def.Words()
	for _, list := range [2]entries{d.hidden, d.shown} {
		switch {
		case d.def.Native != nil:
			buf = d.loadNative(list, words, buf)
		case n == shmstore.CounterWords && d.def.Type != shmstore.HistogramType:
			buf = loadPairs(list, words, buf)
		case d.def.Type == shmstore.HistogramType:
			for _, cell := range list.cells {
				buf = appendCells(buf, words[cell:int(cell)+n])
			}
		case n == shmstore.TimedWords:
			for _, cell := range list.cells {
				word, at := accumulator.LoadTimed(words[cell : cell+shmstore.TimedWords])
				buf = append(buf, word, at)
			}
		default:
			for _, cell := range list.cells {
				buf = append(buf, atomic.LoadUint64(&words[cell]))
			}
		}
	}
	return buf
}

// loadPairs appends two cells of each series.
func loadPairs(list entries, words, buf []uint64) []uint64 {
	n := len(buf)
	buf = slices.Grow(buf, 2*len(list.rows))[:n+2*len(list.rows)]
	to := buf[n:]
	for _, r := range list.runs {
		from := words[r.cell:]
		for i := range int(r.n) {
			cells, pair := (*[2]uint64)(from[i*runStride:]), (*[2]uint64)(to)
			pair[0], pair[1] = atomic.LoadUint64(&cells[0]), atomic.LoadUint64(&cells[1])
			to = to[2:]
		}
	}
	return buf
}

func appendCells(buf, cells []uint64) []uint64 {
	for i := range cells {
		buf = append(buf, atomic.LoadUint64(&cells[i]))
	}
	return buf
}

// merge adds what load has copied and returns the rest of buf and how many series were rejected.
func (d *contribution) merge(buf []uint64) (rest []uint64, bad int) {
	switch d.def.Type {
	case shmstore.CounterType:
		return d.mergeCounters(buf)
	case shmstore.HistogramType:
		return d.mergeHistograms(buf)
	case shmstore.SummaryType:
		return d.mergeSummaries(buf)
	default:
		return d.mergeGauges(buf), 0
	}
}

// presence returns what hidden and shown series say about their rows, when they count.
func (d *contribution) presence() [2]presence {
	if d.origin.Alive {
		return [2]presence{liveHidden | counted, liveShown | counted}
	}
	return [2]presence{deadHidden | counted, deadShown | counted}
}

func (d *contribution) mergeCounters(buf []uint64) (rest []uint64, bad int) {
	f := d.family
	marks := d.presence()
	for i, list := range [2]entries{d.hidden, d.shown} {
		bad += f.addCounters(list.runs, buf, true, marks[i])
		buf = buf[shmstore.CounterWords*len(list.rows):]
	}
	return buf, bad
}

// inPlace tells whether the cells may be added as they are read.
func (d *contribution) inPlace() bool { return d.def.Type == shmstore.CounterType }

// addInPlace adds counters from the file and returns how many series were rejected.
func (d *contribution) addInPlace(words []uint64) (bad int) {
	marks := d.presence()
	for i, list := range [2]entries{d.hidden, d.shown} {
		bad += d.family.addCounters(list.runs, words, false, marks[i])
	}
	return bad
}

func (d *contribution) mergeHistograms(buf []uint64) (rest []uint64, bad int) {
	if d.def.Native != nil {
		return d.mergeNative(buf)
	}
	f := d.family
	marks := d.presence()
	n := d.def.Words()
	for i, list := range [2]entries{d.hidden, d.shown} {
		for _, row := range list.rows {
			cells := buf[:n]
			buf = buf[n:]
			counts := cells[shmstore.HistogramBuckets:]
			if !accumulator.Possible(counts) {
				bad++
				f.presence[row] |= marks[i] &^ counted
				continue
			}
			f.presence[row] |= marks[i]
			f.sums[row].Add(math.Float64frombits(cells[shmstore.HistogramSum]))
			d.addCounts(row, counts)
		}
	}
	return buf, bad
}

// addCounts adds the buckets of a histogram, or the count of a summary, to a row.
func (d *contribution) addCounts(row int32, counts []uint64) {
	f := d.family
	width := len(f.rule.Bounds) + 1
	buckets := f.buckets[int(row)*width:][:width]
	for j, count := range counts {
		if f.rule.Native != nil {
			d.addClassic(row, j, count)
		}
		if d.carry != nil {
			j = int(d.carry[j])
		}
		buckets[j] = accumulator.AddSaturated(buckets[j], count)
	}
}

func (d *contribution) mergeSummaries(buf []uint64) (rest []uint64, bad int) {
	f := d.family
	marks := d.presence()
	for i, list := range [2]entries{d.hidden, d.shown} {
		for _, row := range list.rows {
			cells := buf[:shmstore.SummaryWords]
			buf = buf[shmstore.SummaryWords:]
			var window []uint64
			if d.def.Window != nil {
				window, buf = takeWindow(buf)
			}
			count := cells[shmstore.SummaryCount]
			if count >= accumulator.TooLarge {
				bad++
				f.presence[row] |= marks[i] &^ counted
				continue
			}
			f.presence[row] |= marks[i]
			f.sums[row].Add(math.Float64frombits(cells[shmstore.SummarySum]))
			f.buckets[row] = accumulator.AddSaturated(f.buckets[row], count)
			d.mergeWindow(row, window)
		}
	}
	return buf, bad
}

func (d *contribution) mergeGauges(buf []uint64) (rest []uint64) {
	f := d.family
	all := f.rule.Mode.Base() == shmstore.All
	timed := d.def.Words() == shmstore.TimedWords
	for _, row := range d.shown.rows {
		v, set := shmstore.GaugeValue(buf[0])
		at := d.origin.Since
		if timed {
			at = d.origin.Time(buf[1])
			if !set && buf[1] == accumulator.Unreadable {
				f.presence[row] |= liveShown
				buf = buf[2:]
				continue
			}
			buf = buf[1:]
		}
		buf = buf[1:]
		f.presence[row] |= liveShown | counted
		if set || all {
			f.gauges[row].Add(v, d.origin.Info.ThisBoot, at)
		}
	}
	return buf
}
