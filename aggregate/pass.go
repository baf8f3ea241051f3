package aggregate

import (
	"maps"
	"slices"
	"strings"

	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
)

// A pass reads the store once: it brings the plan up to date (which files there are, whose series add into which rows),
// reads the cells of each file and adds them up. The plan is what a Store keeps between passes: files, and families
// with their rows. Everything here is under the Store's lock.

// maxPasses is how often a pass is made again because an archive was written meanwhile, which is at most once a second.
const maxPasses = 10

// pass makes sums of all that counts at one instant. When an archive is written meanwhile, a process may reuse what that
// archive has taken, so that its file no longer fits the archive before: then all is read again. So it is when a series that
// counts was replaced before it could be read, but not as often: a process of an earlier release does that all the time.
func (s *Store) pass() {
	for n := 1; n <= maxPasses; n++ {
		s.read()
		if s.current() && (n >= attempts || !s.lost()) {
			break
		}
	}
	s.exposed = s.exposed[:0]
	for _, f := range s.families {
		if !f.shadowed && !f.rule.QuantileLines && slices.ContainsFunc(f.order, f.visible) {
			s.findLines(f)
			f.makeTemplates()
			s.exposed = append(s.exposed, f)
		}
	}
	slices.SortFunc(s.exposed, func(a, b *family) int { return strings.Compare(a.name, b.name) })
	s.collectSelfMetrics()
	s.logReports()
}

// read adds up all files. When a file changes while it is read, or cannot be read, the sums are dropped and all files are read
// again. Each time at least one file more is read series by series, or left out, so this ends.
func (s *Store) read() {
	if !s.refreshFiles() {
		return
	}
	for _, f := range s.files {
		if f.reader != nil {
			f.noteChanges()
		}
	}
	for files := s.planAll(); !s.add(files); files = s.planAll() {
		s.refreshAll()
	}
	for _, f := range s.families {
		f.finish()
	}
}

// refreshFiles brings what is known about the files up to date. If it returns false they say less than the last pass did, which
// then stays.
//
// A series that at every instant some process shows is in every scrape, although files are looked at one after the other.
// When one process has deleted it, another may have made it after it was looked at, or may have started after the directory
// was listed. So after a look that finds a deletion all directories are listed and all files looked at once more, and what
// is deleted, or dies, after the first look counts as shown, or alive, in this pass. See also shmstore/deletion.go.
func (s *Store) refreshFiles() bool {
	s.keepDeleted(false)
	if !s.list() {
		return false
	}
	changed := s.refreshAll()
	s.keepDeleted(true)
	if changed {
		if !s.list() {
			return false
		}
		s.refreshAll()
	}
	return true
}

// keepDeleted says whether what is found deleted or dead from now on counts as shown or alive.
func (s *Store) keepDeleted(keep bool) {
	s.keeps = keep
	for _, src := range s.sources {
		src.keepDeleted(keep)
	}
	if !keep {
		for _, f := range s.files {
			f.replaced = false
		}
	}
}

// lost reports whether a series that counts was replaced before it could be read.
func (s *Store) lost() bool {
	for _, f := range s.files {
		if r := own(f.reader); f.replaced || r != nil && r.Lost() {
			return true
		}
	}
	return false
}

// refreshAll refreshes all files. It reports whether a series was deleted which another process may have made after its own file
// was refreshed. That may also have happened to the series of a process that died, if a living one has deleted them.
func (s *Store) refreshAll() (changed bool) {
	died, deleting := false, false
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		f := s.files[name]
		if f.reader == nil {
			continue
		}
		wasDead := f.contributions != nil && !f.Alive
		s.refresh(f)
		if r := own(f.reader); r != nil {
			changed = changed || r.Deletions() != f.deletions
			f.deletions = r.Deletions()
			deleting = deleting || f.deletions > 0
			died = died || !f.Alive && !wasDead
		}
	}
	return changed || died && deleting
}

// planAll brings the plan up to date and returns the files that count, in ascending order of rank: if several gauges have the same
// timestamp, the last one wins.
func (s *Store) planAll() []*file {
	s.resolve()
	files := make([]*file, 0, len(s.files))
	for _, f := range s.files {
		if f.contributions != nil {
			f.unplan()
			files = append(files, f)
		}
	}
	for _, f := range files {
		f.plan()
	}
	slices.SortFunc(files, func(a, b *file) int { return a.Origin.Compare(&b.Origin) })
	for _, src := range s.sources {
		for _, d := range src.archived.contributions {
			d.planArchived()
		}
	}
	for _, f := range s.families {
		f.chooseOwners()
	}
	return files
}

// begin makes the sums those of the archives.
func (s *Store) begin() {
	for _, f := range s.families {
		f.begin()
	}
	for _, src := range s.sources {
		for _, d := range src.archived.contributions {
			if d.contributes() {
				d.mergeArchived()
			}
		}
	}
}

// current reports whether each archive is still the one that was read, or cannot be known.
func (s *Store) current() bool {
	for _, src := range s.sources {
		if !src.unlisted && !src.Current() {
			return false
		}
	}
	return true
}

// moved reports whether a process has deleted or replaced series since the last pass, although its directory cannot be listed.
func (s *Store) moved() bool {
	for _, f := range s.files {
		if f.source.unlisted && f.contributions != nil && f.reader.Layout() != f.layout {
			return true
		}
	}
	return false
}

// list takes over which files the directories have, and their archives. Of one that cannot be listed what was known stays:
// the files are mapped and count on, as long as nothing in them is deleted. A process that has deleted or replaced series
// may have used again what an archive has taken that cannot be read now; then list returns false and nothing changes.
func (s *Store) list() bool {
	for _, src := range s.sources {
		s.update(src)
	}
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		if f := s.files[name]; f.source.unlisted {
			s.refresh(f)
		}
	}
	if s.moved() {
		return false
	}
	for _, src := range s.sources {
		if !src.unlisted {
			s.takeFiles(src)
		}
	}
	return true
}

// update looks at a directory.
func (s *Store) update(src *source) {
	err := src.Update()
	if err != nil && !src.unlisted {
		s.count(reasonIO)
		text := "the store cannot be listed; processes that start now are missing in the sums"
		if !src.wasListed {
			text = "the store cannot be listed, and nothing of it was ever read: none of its metrics are exposed"
		}
		s.log.Error(text, "error", err)
	}
	src.unlisted, src.wasListed = err != nil, src.wasListed || err == nil
}

// takeFiles makes the plan's files those that a directory has.
func (s *Store) takeFiles(src *source) {
	src.readNew()
	s.takeArchive(src)
	broken := src.Broken()
	listed := make(map[string]bool, len(s.files))
	for _, r := range src.readers() {
		name := r.Info().Name
		listed[name] = true
		f := s.files[name]
		if f == nil {
			f = &file{source: src, problem: src.problems[name]}
			s.files[name] = f
		}
		if f.reader != r {
			s.release(f)
			f.reader, f.Origin, f.deletions = r, origin.Origin{Info: r.Info()}, 0
		}
		if a := src.Archive(); a != nil && a.ArchivedThrough[f.Info.Nonce] != f.ArchivedThrough {
			f.ArchivedThrough = a.ArchivedThrough[f.Info.Nonce]
			for _, d := range f.contributions {
				d.stale = true
			}
		}
	}
	for name, f := range s.files {
		if f.source == src && !listed[name] {
			s.release(f)
			delete(s.files, name)
			if f.problem != "" && broken[name] != nil {
				src.problems[name] = f.problem
			}
		}
	}
	if v := src.BrokenVersion(); v != src.brokenVersion {
		src.brokenVersion = v
		s.takeBroken(src)
	}
}

// takeBroken counts and logs what came to be wrong with files that a directory has.
func (s *Store) takeBroken(src *source) {
	broken := src.Broken()
	maps.DeleteFunc(src.problems, func(name, _ string) bool { return broken[name] == nil })
	for name, err := range broken {
		if reason := reasonOf(err); src.problems[name] != reason {
			src.problems[name] = reason
			s.reportProblem(name, reason, true, err)
		}
	}
}

// release takes everything that a file declares out of the plan.
func (s *Store) release(f *file) {
	for _, d := range f.contributions {
		s.removeContribution(d)
	}
	f.contributions, f.planned, f.layout = nil, 0, 0
}

// leaveOut takes a file that cannot be read out of the sums. The next pass tries it again from its beginning.
func (s *Store) leaveOut(f *file, err error) {
	s.release(f)
	if f.reader != nil {
		f.source.forget(f.reader)
		f.reader = nil
	}
	s.reportUnreadable(f, err)
}

// reportUnreadable counts and logs once why a file cannot be read.
func (s *Store) reportUnreadable(f *file, err error) {
	reason := reasonOf(err)
	if f.problem == reason {
		return
	}
	f.problem = reason
	s.reportProblem(f.Info.Name, reason, f.contributions == nil, err)
}

func (s *Store) reportProblem(name, reason string, leftOut bool, err error) {
	s.count(reason)
	s.reports.add("a file of the store cannot be read", name, "reason", reason, "left_out", leftOut, "error", err)
}

// refresh reads what the process of a file has announced since the last time.
func (s *Store) refresh(f *file) {
	if f.reader == nil {
		return
	}
	rankChanged, err := f.refresh(s.keeps)
	switch {
	case err == nil:
		f.problem = ""
	case reasonOf(err) == reasonIO && f.contributions != nil:
		// The file is not at fault. What is known of it still counts, so that no sum falls.
		s.reportUnreadable(f, err)
	default:
		s.leaveOut(f, err)
		return
	}
	if rankChanged {
		for _, d := range f.contributions {
			if d.family != nil {
				d.family.dirty = true
			}
		}
	}
	s.addFamilies(f)
}

// addFamilies takes families that the file has announced since the last time into the plan.
func (s *Store) addFamilies(f *file) {
	families := f.reader.Families()
	if f.contributions == nil {
		// Not nil from here on, which is what tells a file that counts.
		f.contributions = make([]*contribution, 0, len(families))
	}
	for i := len(f.contributions); i < len(families); i++ {
		d := &contribution{origin: &f.Origin, reader: f.reader, number: i, def: families[i], outranked: true}
		f.contributions = append(f.contributions, d)
		if !usable(&d.def) {
			continue
		}
		s.addContribution(d)
	}
}

// resolve decides anew, where something changed, which definition rules a family, and which families cannot be exposed
// beside each other.
func (s *Store) resolve() {
	changed := false
	for name, f := range s.families {
		if !f.dirty {
			continue
		}
		changed = true
		if len(f.contributions) == 0 {
			delete(s.families, name)
			continue
		}
		s.chooseRule(f)
	}
	if changed {
		s.resolveCollisions()
	}
}

// chooseRule decides which definition rules a family.
func (s *Store) chooseRule(f *family) {
	for _, d := range f.chooseRule() {
		s.conflict(f.name, conflictID(d.def.Key(), f.rule.Type.String()), "type", d.def.Type.String(), "rules",
			f.rule.Type.String(), "file", d.origin.Info.Name)
	}
}

// suffixes are what the samples of a family are called besides its name.
var suffixes = map[shmstore.Type][]string{
	shmstore.HistogramType: {"_bucket", "_count", "_sum"},
	shmstore.SummaryType:   {"_count", "_sum"},
}

// resolveCollisions shadows families whose samples have the name of another family or of its samples. Of two such families, the
// one whose definition ranks lower is shadowed.
func (s *Store) resolveCollisions() {
	shadowed := map[*family]*family{}
	for _, name := range ownNames {
		if f := s.families[name]; f != nil {
			shadowed[f] = f
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.families)) {
		f := s.families[name]
		for _, suffix := range suffixes[f.rule.Type] {
			other := s.families[name+suffix]
			if other == nil || shadowed[f] != nil || shadowed[other] != nil {
				continue
			}
			if f.ruling().origin.CompareRule(other.ruling().origin) >= 0 {
				shadowed[other] = f
			} else {
				shadowed[f] = other
			}
		}
	}
	for _, f := range s.families {
		other := shadowed[f]
		if other != nil && !f.shadowed {
			s.conflict(f.name, conflictID(f.name, other.name), "collides_with", other.name)
		}
		f.shadowed = other != nil
	}
}

// conflict counts and logs a definition that is left out from now on, once: processes come and go, and it stays the same
// conflict until the last that has counted with the definition is forgotten.
func (s *Store) conflict(family, id string, args ...any) {
	if !s.selfMetrics.newConflict(id) {
		return
	}
	s.selfMetrics.conflicts[family]++
	s.log.Warn("a metric is left out, because another definition rules", append([]any{"family", family}, args...)...)
}

// attempts are how often a pass is made because a series that counts was replaced before it could be read.
const attempts = 3

// add begins with the sums of the archives and adds the cells of all files. It returns false if a file changed or could not be
// read; the sums are then wrong. The next call reads such a file series by series. If that fails, the file is left out.
func (s *Store) add(files []*file) bool {
	s.begin()
	whole := true
	for _, f := range files {
		err := f.add(&s.cells, s.now())
		switch {
		case err == nil:
			s.reportRejections(f)
			continue
		case f.restless:
			s.leaveOut(f, err)
		default:
			f.restless, f.quiet = true, 0
		}
		whole = false
	}
	return whole
}

// reportRejections counts and logs which values and definitions of a file were ignored.
func (s *Store) reportRejections(f *file) {
	s.reportRejected(f, &f.oddValues, reasonValue, f.rejected)
	s.reportRejected(f, &f.oddDefinitions, reasonDefinition, f.unusable())
}

// reportRejected counts and logs once that some of a file is left out.
func (s *Store) reportRejected(f *file, known *bool, reason string, n int) {
	if n > 0 && !*known {
		s.count(reason)
		s.reports.add("invalid values or definitions in a store file were ignored", f.Info.Name, "reason", reason, "left_out", n)
	}
	*known = n > 0
}

func (s *Store) count(reason string) { s.selfMetrics.errors[reason]++ }
