package aggregate

import (
	"errors"
	"hash/maphash"

	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
)

// file is an origin with a file of its own, and the plan of what in it adds into what.
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

// unplan takes out of the plan what is to be planned anew. All files do so before any plans: a series that every origin has
// deleted and made again is then a new row, with a created time of its own.
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
				d.add(i, &series[i])
			}
		}
		for _, d := range f.contributions {
			d.stale = false
		}
	}
	f.makeRoom(series[f.planned:])
	for ; f.planned < len(series); f.planned++ {
		if d := f.contributionOf(&series[f.planned]); d != nil {
			d.add(f.planned, &series[f.planned])
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

// load appends the cells of all that counts to buf, and what windows hold at now, of Monotonic. In place, it adds those of
// counters at once, some of them also when the process did not hold still.
func (f *file) load(now uint64, buf []uint64, inPlace bool) ([]uint64, error) {
	n := len(buf)
	if err := f.readExemplars(); err != nil {
		return buf, err
	}
	err := f.reader.Read(func(words []uint64) {
		buf = buf[:n]
		f.rejected = 0
		budget := len(words)
		for _, d := range f.contributions {
			switch {
			case !d.contributes():
			case inPlace && d.inPlace():
				f.rejected += d.addInPlace(words)
			case d.def.Window != nil:
				buf = d.loadWindows(words, f.reader.Series(), now, &budget, buf)
			default:
				buf = d.load(words, buf)
			}
		}
	})
	return buf, err
}

// loadStable is load for a process that changes its layout faster than it can be followed: each series is made sure of by
// itself, and those that were replaced meanwhile leave the plan until the next scrape.
func (f *file) loadStable(now uint64, buf []uint64) ([]uint64, error) {
	n := len(buf)
	f.rejected = 0
	if err := f.readExemplars(); err != nil {
		return buf, err
	}
	var copies []uint64
	budget := int(f.state.Reserved / 8)
	at := make([]int, len(f.reader.Series())+1) // place in copies, plus one
	err := f.reader.ReadStable(func(i int, cells []uint64) {
		at[i] = len(copies) + 1
		copies = f.copyWindow(i, now, &budget, append(copies, cells...))
	})
	if err != nil {
		return buf[:n], err
	}
	for _, d := range f.contributions {
		if !d.contributes() {
			continue
		}
		d.keep(&d.hidden, at)
		f.replaced = d.keep(&d.shown, at) || f.replaced
		// The copies are read as the file's words are, with other places of the cells.
		moved := *d
		moved.hidden, moved.shown = moveTo(d.hidden, at), moveTo(d.shown, at)
		if d.def.Window != nil {
			buf = moved.loadCopies(copies, buf)
		} else {
			buf = moved.load(copies, buf)
		}
	}
	return buf, nil
}

// keep drops the entries of series that have no place and reports whether there were any.
func (d *contribution) keep(list *entries, at []int) (left bool) {
	all := *list
	*list = entries{}
	for e := range all.each {
		if at[e.series] == 0 {
			d.family.drop(e.row)
			d.stale, left = true, true
			continue
		}
		list.add(e)
	}
	return left
}

// moveTo returns the entries with their cells where at says.
func moveTo(list entries, at []int) entries {
	var moved entries
	for e := range list.each {
		moved.add(entry{series: e.series, cell: int32(at[e.series] - 1), row: e.row})
	}
	return moved
}

// merge adds what load has appended.
func (f *file) merge(buf []uint64, inPlace bool) {
	for _, d := range f.contributions {
		if !d.contributes() || inPlace && d.inPlace() {
			continue
		}
		var bad int
		buf, bad = d.merge(buf)
		f.rejected += bad
	}
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
