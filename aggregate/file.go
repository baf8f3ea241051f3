package aggregate

import (
	"errors"
	"hash/maphash"

	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
)

// file is an origin that has a file, with its contributions to the families.
type file struct {
	origin.Origin
	source  *source
	reader  reader // nil: it could not be opened
	state   shmstore.State
	problem string // why it is left out, or is not whole; "": nothing

	contributions []*contribution // by the file's number of the family
	planned       int             // series that contributions know
	layout        uint64          // of the reader, when contributions were compared with it

	rejected                  int  // series that were, in this pass
	oddDefinitions, oddValues bool // some were left out

	deletions uint64 // of the reader, when it was followed last
	replaced  bool   // a series that was planned was replaced before it could be read

	restless   bool   // it changed while it was read, of late
	lastLayout uint64 // of the reader, in the last pass
	quiet      int    // passes since it changed

	asked    []int32 // series that may have exemplars
	askedFor []exemplarRow
}

// reasons why something is left out; onescrape_store_errors_total has no others.
const (
	reasonCorrupt    = "corrupt"
	reasonVersion    = "version"
	reasonForeign    = "foreign"
	reasonIO         = "io"
	reasonDefinition = "definition"
	reasonValue      = "value"
)

var reasons = []string{reasonCorrupt, reasonVersion, reasonForeign, reasonIO, reasonDefinition, reasonValue}

func reasonOf(err error) string {
	switch {
	case errors.Is(err, shmstore.ErrCorrupt):
		return reasonCorrupt
	case errors.Is(err, shmstore.ErrVersion):
		return reasonVersion
	case errors.Is(err, shmstore.ErrForeign):
		return reasonForeign
	default:
		return reasonIO
	}
}

// refresh reads what the process has announced since the last scrape and whether it lives. Whether it lives and what its
// cells hold are asked in this order, so that a process that dies in between counts, as a living one. keep has it count as a
// living one if it was not known to be dead.
func (f *file) refresh(keep bool) (rankChanged bool, err error) {
	alive, err := f.reader.Alive()
	if err != nil {
		// It counts in either case; what it was is the best guess.
		alive = f.Alive
	}
	alive = alive || keep && (f.Alive || f.contributions == nil)
	state, e := f.reader.State()
	if e != nil {
		return false, e
	}
	f.state = state
	rankChanged = f.Observe(state, alive)
	if e := f.reader.Refresh(); e != nil {
		err = e
	}
	return rankChanged, err
}

// compare finds the contributions whose series are no longer those that were planned.
func (f *file) compare() {
	if f.reader.Layout() == f.layout {
		return
	}
	f.layout = f.reader.Layout()
	sums := make([]uint64, len(f.contributions))
	series := f.reader.Series()
	var buf [256]byte
	for i := range series[:f.planned] {
		if s := &series[i]; !s.Free && int(s.Family) < len(f.contributions) {
			key := identity(buf[:0], f.contributions[s.Family].def.Labels, s.Values)
			sums[s.Family] += fingerprint(i, s, maphash.Bytes(seed, key))
		}
	}
	for i, d := range f.contributions {
		if !d.outranked && d.series != sums[i] {
			d.stale = true
		}
	}
}

// unplan removes the stale contributions of the file from the plan. All files do so before any of them plans again. So a series
// that every process has deleted and made again gets a new row, with a created time of its own.
func (f *file) unplan() (stale bool) {
	f.compare()
	for _, d := range f.contributions {
		if d.stale && !d.outranked {
			d.clear()
			stale = true
		}
	}
	return stale
}

// plan brings the contributions up to what the reader knows.
func (f *file) plan() {
	series := f.reader.Series()
	if f.unplan() {
		for i := range series[:f.planned] {
			if d := f.contributionOf(&series[i]); d != nil && d.stale {
				d.planSeries(i, &series[i])
			}
		}
		for _, d := range f.contributions {
			d.stale = false
		}
	}
	f.makeRoom(series[f.planned:])
	for ; f.planned < len(series); f.planned++ {
		if d := f.contributionOf(&series[f.planned]); d != nil {
			d.planSeries(f.planned, &series[f.planned])
		}
	}
}

// many is from how many series on it pays to count them before they are planned.
const many = 64

// makeRoom has the contributions' lists ready for series that are planned next.
func (f *file) makeRoom(series []shmstore.SeriesInfo) {
	if len(series) < many {
		return
	}
	n := make([]int, len(f.contributions))
	for i := range series {
		if s := &series[i]; !s.Hidden && f.contributionOf(s) != nil {
			n[s.Family]++
		}
	}
	for i, d := range f.contributions {
		if n[i] >= many && !d.outranked {
			d.shown.grow(n[i])
		}
	}
}

func (f *file) contributionOf(s *shmstore.SeriesInfo) *contribution {
	if s.Free || int(s.Family) >= len(f.contributions) {
		return nil
	}
	return f.contributions[s.Family]
}

// quietLooks is the number of passes without a change after which a restless file counts as still again.
const quietLooks = 4

// noteChanges notes whether the process has changed its layout since the last pass.
func (f *file) noteChanges() {
	if f.reader.Layout() != f.lastLayout {
		f.lastLayout, f.quiet = f.reader.Layout(), 0
	} else if f.quiet++; f.quiet >= quietLooks {
		f.restless = false
	}
}

// add adds the file's cells to the rows, by way of c. now is the time at which windows end, on shmstore.Monotonic's clock. After an
// error the sums contain a part of the file and must be made anew. A restless file is read series by series; then the error is
// never shmstore.ErrLayoutChanged.
func (f *file) add(c *cells, now uint64) error {
	defer c.end()
	f.rejected = 0
	if err := f.readExemplars(); err != nil {
		return err
	}
	if f.restless {
		return f.addSeries(c, now)
	}
	return f.reader.Read(func(words []uint64) {
		f.rejected = 0
		c.words, c.window = words, f.windows(words, now)
		for _, d := range f.contributions {
			if d.contributes() {
				f.rejected += d.addFile(c)
			}
		}
	})
}

// windows returns a function that appends the counts in the window of a series. All its calls together append at most as many
// words as the file has.
func (f *file) windows(words []uint64, now uint64) func(to []uint64, d *contribution, series int32) []uint64 {
	series, budget := f.reader.Series(), len(words)
	return func(to []uint64, d *contribution, i int32) []uint64 {
		if at := series[i].Window; at != 0 {
			return d.def.Window.AppendCounts(to, words, int(at), now, d.family.rule.Window.Length(), &budget)
		}
		return append(to, 0)
	}
}

// destination is where a series of a file is added.
type destination struct {
	row    int32 // plus one; 0: nowhere
	hidden bool
	read   bool
}

// addSeries reads each series by itself, so the process need not hold still. Series that were replaced meanwhile leave the plan
// until the next scrape.
func (f *file) addSeries(c *cells, now uint64) error {
	destinations := f.destinations()
	series := f.reader.Series()
	budget := int(f.state.Reserved / 8)
	c.window = func(to []uint64, d *contribution, i int32) []uint64 {
		return own(f.reader).AppendWindow(to, int(i), now, d.family.rule.Window.Length(), &budget)
	}
	var one entries
	err := f.reader.ReadStable(func(i int, copied []uint64) {
		p := &destinations[i]
		if p.row == 0 {
			return
		}
		p.read = true
		d := f.contributions[series[i].Family]
		mark := d.presence()[1]
		if p.hidden {
			mark = d.presence()[0]
		}
		one.clear()
		one.add(entry{series: int32(i), cell: 0, row: p.row - 1})
		c.words = copied
		f.rejected += d.add(&one, c, mark)
	})
	if err != nil {
		return err
	}
	for _, d := range f.contributions {
		if d.contributes() {
			d.keep(&d.hidden, destinations)
			f.replaced = d.keep(&d.shown, destinations) || f.replaced
		}
	}
	return nil
}

// destinations returns where each series is added.
func (f *file) destinations() []destination {
	destinations := make([]destination, len(f.reader.Series()))
	for _, d := range f.contributions {
		if !d.contributes() {
			continue
		}
		for e := range d.hidden.each {
			destinations[e.series] = destination{row: e.row + 1, hidden: true}
		}
		for e := range d.shown.each {
			destinations[e.series] = destination{row: e.row + 1}
		}
	}
	return destinations
}

// keep drops the entries of series that were not read and reports whether there were any.
func (d *contribution) keep(list *entries, destinations []destination) (left bool) {
	all := *list
	*list = entries{}
	for e := range all.each {
		if !destinations[e.series].read {
			d.family.drop(e.row)
			d.stale, left = true, true
			continue
		}
		list.add(e)
	}
	return left
}

// unusable returns how many definitions nobody may expose.
func (f *file) unusable() (n int) {
	for _, d := range f.contributions {
		if d.family == nil {
			n++
		}
	}
	return n
}
