package aggregate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/onescrape/onescrape/aggregate/internal/accumulator"
	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
)

// foldEvery is how long Run waits between two folds, so that a crowd of deaths is one.
const foldEvery = time.Second

// Fold moves the contents of dead processes' files into the store's archive and removes the files; folded is their number.
// Scrapes stay the same. It also compacts the foreign directories that are to be compacted, each into an archive of its
// own. Any number of processes may fold the same store; they take turns. Fold returns an error, and changes nothing, when
// the Store is ReadOnly or closed, when there is no space for the archive (shmstore.ErrFull), and when a newer program
// wrote the archive (shmstore.ErrVersion). ctx and Close end the wait for another process that folds; a fold that has begun
// is completed.
func (s *Store) Fold(ctx context.Context) (folded int, err error) {
	if s.options.ReadOnly {
		return 0, fmt.Errorf("aggregate: fold %s: the store was opened read-only", s.Dir())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	select {
	case s.folding <- struct{}{}:
		defer func() { <-s.folding }()
	case <-ctx.Done():
	}
	if s.closing.Err() != nil {
		return 0, errClosed
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("aggregate: fold %s: %w", s.Dir(), err)
	}
	folded, err = s.foldAll(ctx)
	if err != nil && s.closing.Err() != nil {
		err = errClosed
	}
	return folded, err
}

// foldAll folds all directories.
func (s *Store) foldAll(ctx context.Context) (folded int, err error) {
	var errs []error
	if s.dir != nil {
		folded, err = s.foldOwn(ctx)
		errs = append(errs, err)
	}
	for _, src := range s.sources {
		if src.compacts != nil {
			n, err := s.compact(ctx, src)
			folded += n
			errs = append(errs, err)
		}
	}
	return folded, errors.Join(errs...)
}

// foldOwn folds the store's own directory.
func (s *Store) foldOwn(ctx context.Context) (int, error) {
	merge := func(last *shmstore.Archive, dead, live []*shmstore.Reader) (*shmstore.Archive, error) {
		return foldInto(last, readersOf(dead), readersOf(live), s.options.Retention)
	}
	w := s.wait(s.Dir())
	defer w.over()
	folded, err := s.foldView.Fold(shmstore.FoldOptions{
		Context: ctx, Blocked: w.blocked, Step: w.step, Look: s.foldLook, Merge: merge,
	})
	if err != nil {
		return folded, fmt.Errorf("aggregate: %w", err)
	}
	return folded, nil
}

// Run folds once a second, if there is something to fold, until ctx ends, and then returns nil. It returns an error at once
// when the Store can never fold. A later problem is logged when it begins and when it is over.
func (s *Store) Run(ctx context.Context) error {
	if s.options.ReadOnly {
		return fmt.Errorf("aggregate: fold %s: the store was opened read-only", s.Dir())
	}
	ticker := time.NewTicker(foldEvery)
	defer ticker.Stop()
	last := ""
	for {
		_, err := s.Fold(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errClosed):
			return err
		case err != nil && err.Error() != last:
			s.log.Error("dead processes' files cannot be folded and stay where they are", "error", err)
			last = err.Error()
		case err == nil && last != "":
			s.log.Info("dead processes' files are folded again")
			last = ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// foldedFamily is a definition on its way into the next archive.
type foldedFamily struct {
	def     shmstore.Family
	ready   bool
	readyAt uint64
	series  map[string]*seriesAccumulator // that the fold may change, by packed label values
	rest    shmstore.PackedSeries         // all others, as they are in the last archive

	slotOwners map[int]origin.Origin // of mode all: whose gauges each slot has
}

type seriesAccumulator struct {
	values  []string
	created time.Time
	age     time.Duration
	sum     accumulator.Accumulator

	exemplars foldedExemplars
}

// fold is one generation of the archive in the making. Definitions are kept apart by their full key and nothing is
// converted: what rules is decided, and what differs is converted, at output only, so that a rollback finds its counts.
// What the last archive holds is decoded only where the fold may change it.
type fold struct {
	last            *shmstore.Archive
	archived        archivedIndex            // of the last archive
	families        map[string]*foldedFamily // that the fold may change, by key
	archivedThrough map[uint64]uint64
	present         map[string]presence       // of series that somebody has deleted, by sample identity
	deleted         map[string]labelSet       // the series that present is about
	unread          []shmstore.ArchivedFamily // series that make no sense and stay as they are
	changed         bool
	rewrites        bool // families are not the last archive's
}

// labelSet is a series of a definition.
type labelSet struct {
	def    *shmstore.Family
	values []string
}

func newFold(last *shmstore.Archive) *fold {
	return &fold{last: last, families: map[string]*foldedFamily{}, archivedThrough: map[uint64]uint64{}, present: map[string]presence{},
		deleted: map[string]labelSet{}}
}

// foldInto makes the archive that follows last, nil when it would be the same.
func foldInto(last *shmstore.Archive, dead, live []reader, retention time.Duration) (*shmstore.Archive, error) {
	f := newFold(last)
	if len(dead) == 0 && !f.due(retention) && !slices.ContainsFunc(live, f.released) {
		return nil, nil
	}
	f.begin()
	f.survey(dead, live)
	w := f.wants(dead, live)
	w.addDeleted(f)
	f.unfold(w)
	for _, r := range dead {
		if err := f.add(r, false); err != nil {
			return nil, err
		}
		delete(f.archivedThrough, r.Info().Nonce)
		f.changed = true
	}
	for _, r := range live {
		if err := f.add(r, true); err != nil {
			return nil, err
		}
	}
	f.dropDeleted()
	agedAt := f.age(live, retention)
	if !f.changed {
		return nil, nil
	}
	return f.archive(agedAt), nil
}

// add takes a dead process's file into the archive, or, of a living one's, what it has deleted and will never touch again.
func (f *fold) add(r reader, alive bool) error {
	m := origin.Origin{Info: r.Info()}
	taken := f.archivedThrough[m.Info.Nonce]
	if alive && !f.released(r) {
		return nil
	}
	state, err := r.State()
	if err != nil {
		return err
	}
	m.Observe(state, alive)
	defs := make([]*foldedFamily, len(r.Families()))
	outranked := make([]bool, len(defs))
	for i := range r.Families() {
		if def := &r.Families()[i]; def.Mode == shmstore.All && usable(def) && !alive {
			defs[i] = f.family(def, &m)
			outranked[i] = !defs[i].takeSlot(&m)
		}
	}
	series := r.Series()
	var (
		asked    []int32
		askedFor []*seriesAccumulator
	)
	err = r.ReadStable(func(i int, cells []uint64) {
		s := &series[i]
		def := &r.Families()[s.Family]
		if s.Release > 0 && s.Release <= taken || alive && !final(r, s) || def.Mode != 0 && (s.Hidden || def.Mode.Live()) {
			return
		}
		if s.Release > f.archivedThrough[m.Info.Nonce] {
			f.archivedThrough[m.Info.Nonce] = s.Release
		}
		f.changed = true
		if !usable(def) || outranked[s.Family] || s.Hidden && f.present[sampleKey(def, s.Values)].over() {
			return
		}
		if defs[s.Family] == nil {
			defs[s.Family] = f.family(def, &m)
		}
		sum := defs[s.Family].add(def, s, &m, cells)
		if s.Exemplars && sum != nil {
			asked, askedFor = append(asked, int32(i)), append(askedFor, sum)
		}
	})
	if err != nil {
		return err
	}
	if len(asked) == 0 {
		return nil
	}
	return own(r).ReadExemplars(asked, func(k, _ int, e *shmstore.Exemplar) {
		askedFor[k].exemplars.offer(&r.Families()[series[asked[k]].Family], e)
	})
}

// final reports whether a living process has released the series, and all that it released before are known too: the archive
// names the last one that it took, and the process then uses all up to that for others.
func final(r reader, s *shmstore.SeriesInfo) bool {
	return s.Release > 0 && s.Release <= releases(r)
}

// released reports whether a living process has released what the archive does not have yet. Only then, or when a process
// dies, can a series have come to its end.
func (f *fold) released(r reader) bool {
	taken := f.lastTaken(r)
	if releases(r) <= taken {
		return false
	}
	series := r.Series()
	for i := range series {
		if s := &series[i]; s.Release > taken && final(r, s) {
			return true
		}
	}
	return false
}

// lastTaken returns up to which release the last archive has what the process has deleted.
func (f *fold) lastTaken(r reader) uint64 {
	if f.last == nil {
		return 0
	}
	return f.last.ArchivedThrough[r.Info().Nonce]
}

// takeSlot makes room for the gauges of a dead process in its slot, which count instead of those of any that ranks lower,
// even if it has none of them. It is false when the archive has those of one that ranks higher.
func (to *foldedFamily) takeSlot(m *origin.Origin) bool {
	if best, ok := to.slotOwners[m.Info.Slot]; ok && m.Compare(&best) < 0 {
		return false
	}
	to.slotOwners[m.Info.Slot] = *m
	for _, s := range to.series {
		delete(*s.sum.(*accumulator.SlotGauges), m.Info.Slot)
	}
	return true
}

// family returns the definition in the next archive, and makes it rank as the process that has it.
func (f *fold) family(def *shmstore.Family, m *origin.Origin) *foldedFamily {
	key := def.Key()
	to := f.families[key]
	if to == nil {
		to = &foldedFamily{def: *def, series: map[string]*seriesAccumulator{}, slotOwners: map[int]origin.Origin{}}
		f.families[key] = to
	}
	f.rewrites = true
	readyAt := uint64(0)
	if m.Ready && m.Info.ThisBoot {
		readyAt = uint64(m.Since)
	}
	if m.Ready && (!to.ready || readyAt >= to.readyAt) || !m.Ready && !to.ready {
		to.def.Help, to.def.Unit, to.ready, to.readyAt = def.Help, def.Unit, m.Ready, readyAt
	}
	return to
}

// add adds the cells of a process's series, which are as the process's own definition says: native buckets of any
// resolution are one family. It returns nil for a series whose cells cannot be: nothing of it is archived, or it would come
// out as 0.
func (to *foldedFamily) add(def *shmstore.Family, s *shmstore.SeriesInfo, m *origin.Origin, cells []uint64) *seriesAccumulator {
	key, created := packedKey(s.Values), time.Unix(0, s.Created)
	sum := to.series[key]
	if sum == nil {
		sum = &seriesAccumulator{values: s.Values, created: created, sum: accumulator.New(&to.def)}
	}
	if !sum.sum.AddCells(def, m, cells) {
		return nil
	}
	to.series[key] = sum
	if created.Before(sum.created) {
		sum.created = created
	}
	sum.age = 0
	return sum
}

// survey finds the series that somebody has deleted and says who else has them. What the last archive has taken of a
// process is the archive's.
func (f *fold) survey(dead, live []reader) {
	each := func(readers []reader, do func(r reader, def *shmstore.Family, s *shmstore.SeriesInfo)) {
		for _, r := range readers {
			taken, series, families := f.lastTaken(r), r.Series(), r.Families()
			for i := range series {
				s := &series[i]
				if s.Free || families[s.Family].Mode != 0 || s.Release > 0 && s.Release <= taken {
					continue
				}
				do(r, &families[s.Family], s)
			}
		}
	}
	names := map[string]bool{}
	hide := func(def *shmstore.Family, s *shmstore.SeriesInfo, hidden presence) {
		key := sampleKey(def, s.Values)
		f.present[key] |= hidden
		f.deleted[key] = labelSet{def, s.Values}
		names[def.Name] = true
	}
	each(live, func(r reader, def *shmstore.Family, s *shmstore.SeriesInfo) {
		switch {
		case s.Hidden && final(r, s):
			hide(def, s, liveHidden)
		case s.Hidden:
			hide(def, s, liveHidden|liveHeld)
		}
	})
	each(dead, func(_ reader, def *shmstore.Family, s *shmstore.SeriesInfo) {
		if s.Hidden {
			hide(def, s, deadHidden)
		}
	})
	if len(f.present) == 0 {
		return
	}
	var buf []byte // there may be very many series, of which no key is kept
	show := func(shown presence) func(reader, *shmstore.Family, *shmstore.SeriesInfo) {
		return func(_ reader, def *shmstore.Family, s *shmstore.SeriesInfo) {
			if s.Hidden || !names[def.Name] {
				return
			}
			buf = appendSampleKey(buf[:0], def, s.Values)
			if p, ok := f.present[string(buf)]; ok && p&shown == 0 {
				f.present[string(buf)] = p | shown
			}
		}
	}
	each(live, show(liveShown))
	each(dead, show(deadShown))
}

// dropDeleted removes what every process that had it has deleted.
func (f *fold) dropDeleted() {
	if len(f.present) == 0 {
		return
	}
	f.drop(func(to *foldedFamily, s *seriesAccumulator) bool {
		p, ok := f.present[sampleKey(&to.def, s.values)]
		return ok && to.def.Mode == 0 && p.over()
	})
}

func (f *fold) drop(over func(*foldedFamily, *seriesAccumulator) bool) {
	for _, to := range f.families {
		for values, s := range to.series {
			if over(to, s) {
				delete(to.series, values)
				f.changed, f.rewrites = true, true
			}
		}
	}
}

// Ages are added to step by step, and no step counts for more than twice its length: a clock that jumps, or a machine
// that slept, ages nothing.
const (
	agingSteps = 48 // in a retention
	minStep    = time.Second
)

func step(retention time.Duration) time.Duration { return max(retention/agingSteps, minStep) }

// due reports whether it is time to age the archived series.
func (f *fold) due(retention time.Duration) bool {
	if retention <= 0 || f.last == nil || len(f.last.Families) == 0 {
		return false
	}
	return time.Duration(shmstore.Monotonic()-f.last.AgedAt) >= step(retention)
}

// age adds to the ages of series that no living process has, drops those that are older than the retention, and returns
// when it did so last.
func (f *fold) age(live []reader, retention time.Duration) (agedAt uint64) {
	now := shmstore.Monotonic()
	if f.last == nil || len(f.last.Families) == 0 {
		return now // what comes into the archive now begins to age
	}
	if !f.due(retention) {
		return f.last.AgedAt
	}
	passed := step(retention)
	if f.last.AgedAt > 0 {
		passed = min(time.Duration(now-f.last.AgedAt), 2*passed)
	}
	touched := map[string]bool{}
	packed := newWants()
	for _, r := range live {
		taken := f.lastTaken(r)
		for i := range r.Series() {
			if s := &r.Series()[i]; !s.Free && (s.Release == 0 || s.Release > taken) {
				def := &r.Families()[s.Family]
				touched[sampleKey(def, s.Values)] = true
				packed.addAll(f, labelSet{def, s.Values})
			}
		}
	}
	f.unfold(&wants{all: true})
	f.changed, f.rewrites = true, true
	f.drop(func(to *foldedFamily, s *seriesAccumulator) bool {
		if touched[sampleKey(&to.def, s.values)] {
			s.age = 0
			return false
		}
		s.age += passed
		return s.age >= retention
	})
	for key, to := range f.families {
		live := packed.series[key]
		to.rest = to.rest.Age(passed, retention, func(values []byte) bool { return live[string(values)] })
	}
	return now
}

// archive returns what the fold has made: the families in the order of the last archive, then new ones.
func (f *fold) archive(agedAt uint64) *shmstore.Archive {
	a := &shmstore.Archive{AgedAt: agedAt, ArchivedThrough: f.archivedThrough}
	if f.last != nil && f.last.ThisBoot && !f.rewrites {
		a.Families = f.last.Families // the same slice, so that it is not encoded again
		return a
	}
	add := func(to *foldedFamily) {
		if family := to.archived(); family.Len() > 0 {
			a.Families = append(a.Families, family)
		}
	}
	if f.last != nil {
		for i := range f.last.Families {
			key := f.archived.keys[i]
			if to := f.families[key]; to != nil && f.archived.byKey[key] == i {
				add(to)
			} else {
				a.Families = append(a.Families, f.last.Families[i])
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(f.families)) {
		if _, known := f.archived.byKey[key]; !known {
			add(f.families[key])
		}
	}
	a.Families = append(a.Families, f.unread...)
	return a
}

// archived returns what the next archive has of the family.
func (to *foldedFamily) archived() shmstore.ArchivedFamily {
	a := shmstore.ArchivedFamily{Family: to.def, Ready: to.ready, ReadyAt: to.readyAt, Packed: to.rest}
	for _, values := range slices.Sorted(maps.Keys(to.series)) {
		s := to.series[values]
		if slots, ok := s.sum.(*accumulator.SlotGauges); ok && len(*slots) == 0 {
			continue
		}
		a.Series = append(a.Series, shmstore.ArchivedSeries{
			Values: s.values, Created: s.created, Age: s.age, Words: s.sum.AppendWords(nil), Exemplars: s.exemplars.list(),
		})
	}
	return a
}

// sampleKey is what two definitions of one type share of one series: the name and the labels that Prometheus sees.
func sampleKey(def *shmstore.Family, values []string) string {
	return string(appendSampleKey(nil, def, values))
}

func appendSampleKey(b []byte, def *shmstore.Family, values []string) []byte {
	return identity(append(append(b, def.Name...), 0, byte(def.Type)), def.Labels, values)
}
