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

// usable reports whether client libraries accept the definition. Any program may have written the file.
func usable(def *shmstore.Family) bool {
	return !def.TooLong() && !slices.ContainsFunc(def.Labels, func(l string) bool {
		return strings.HasPrefix(l, "__") || def.Type == shmstore.HistogramType && l == "le" ||
			def.Type == shmstore.SummaryType && l == "quantile"
	})
}

// planSeries plans series number i of the file.
func (d *contribution) planSeries(i int, s *shmstore.SeriesInfo) {
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

// fingerprint returns a hash of all that the plan takes from series number i; hash is the hash of its identity. The sum of a
// contribution's fingerprints almost certainly differs when a series has changed. It saves a copy of every label value.
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

// cells are the cells of a file while it is read: the words of the file itself, or a copy of one series' cells. They are valid
// until end. One serves all files of a pass, one after the other.
type cells struct {
	words  []uint64                                                  // read with atomic loads
	window func(to []uint64, d *contribution, series int32) []uint64 // appends the counts in a series' window
	buf    []uint64                                                  // scratch space
}

// end drops what belongs to the file, which may be unmapped now.
func (c *cells) end() { c.words, c.window = nil, nil }

// load copies n cells to the scratch space.
func (c *cells) load(cell int32, n int) []uint64 {
	c.buf = appendCells(c.buf[:0], c.words[cell:int(cell)+n])
	return c.buf
}

func appendCells(buf, cells []uint64) []uint64 {
	for i := range cells {
		buf = append(buf, atomic.LoadUint64(&cells[i]))
	}
	return buf
}

// addFile adds all cells of the contribution to the family's rows and returns how many series were rejected.
func (d *contribution) addFile(c *cells) (bad int) {
	marks := d.presence()
	return d.add(&d.hidden, c, marks[0]) + d.add(&d.shown, c, marks[1])
}

// presence returns the marks of rows that get hidden and shown series of the contribution.
func (d *contribution) presence() [2]presence {
	if d.origin.Alive {
		return [2]presence{liveHidden | counted, liveShown | counted}
	}
	return [2]presence{deadHidden | counted, deadShown | counted}
}

// add adds the cells of series to the family's rows, marks these, and returns how many series were rejected.
func (d *contribution) add(list *entries, c *cells, mark presence) (bad int) {
	switch {
	case d.def.Type == shmstore.CounterType:
		return d.family.addCounters(list.runs, c.words, mark)
	case d.def.Native != nil:
		return d.addNatives(list, c, mark)
	case d.def.Type == shmstore.HistogramType:
		return d.addHistograms(list, c, mark)
	case d.def.Type == shmstore.SummaryType:
		return d.addSummaries(list, c, mark)
	default:
		d.addGauges(list, c)
		return 0
	}
}

func (d *contribution) addHistograms(list *entries, c *cells, mark presence) (bad int) {
	f := d.family
	n := d.def.Words()
	for i, row := range list.rows {
		cells := c.load(list.cells[i], n)
		counts := cells[shmstore.HistogramBuckets:]
		if !accumulator.Possible(counts) {
			bad++
			f.presence[row] |= mark &^ counted
			continue
		}
		f.presence[row] |= mark
		f.sums[row].Add(math.Float64frombits(cells[shmstore.HistogramSum]))
		d.addCounts(row, counts)
	}
	return bad
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

func (d *contribution) addSummaries(list *entries, c *cells, mark presence) (bad int) {
	f := d.family
	for e := range list.each {
		cells := c.load(e.cell, shmstore.SummaryWords)
		count, sum := cells[shmstore.SummaryCount], cells[shmstore.SummarySum]
		if count >= accumulator.TooLarge {
			bad++
			f.presence[e.row] |= mark &^ counted
			continue
		}
		f.presence[e.row] |= mark
		f.sums[e.row].Add(math.Float64frombits(sum))
		f.buckets[e.row] = accumulator.AddSaturated(f.buckets[e.row], count)
		if d.windowed() {
			c.buf = c.window(c.buf[:0], d, e.series)
			d.addWindow(e.row, c.buf)
		}
	}
	return bad
}

// addGauges adds gauges. Deleted gauges are not in the plan.
func (d *contribution) addGauges(list *entries, c *cells) {
	f := d.family
	all := f.rule.Mode.Base() == shmstore.All
	timed := d.def.Words() == shmstore.TimedWords
	for i, row := range list.rows {
		cell, at := list.cells[i], d.origin.Since
		var word uint64
		if timed {
			var mono uint64
			if word, mono = accumulator.LoadTimed(c.words[cell : cell+shmstore.TimedWords]); mono == accumulator.Unreadable {
				f.presence[row] |= liveShown
				continue
			}
			at = d.origin.Time(mono)
		} else {
			word = atomic.LoadUint64(&c.words[cell])
		}
		f.presence[row] |= liveShown | counted
		if v, set := shmstore.GaugeValue(word); set || all {
			f.gauges[row].Add(v, d.origin.Info.ThisBoot, at)
		}
	}
}
