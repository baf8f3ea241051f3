package aggregate

import (
	"slices"

	"github.com/onescrape/onescrape/aggregate/internal/accumulator"
	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
)

// archived is the archive in the plan: the contributions of what dead processes have left. Its values stay the same from scrape
// to scrape, until a fold makes another archive; then those of the families that it has changed are made anew.
type archived struct {
	archive       *shmstore.Archive
	contributions []*contribution
	counts        []int // how many contributions each family has, which follow each other
}

// takeArchive makes the archive of a source part of the plan, in the place of the one before.
func (s *Store) takeArchive(src *source) {
	a := src.Archive()
	before := src.archived
	if a == before.archive {
		return
	}
	if a != nil && before.archive != nil && sameFamilies(a, before.archive) {
		src.archived.archive = a
		return
	}
	src.archived = archived{archive: a}
	known := before.byKey()
	var fresh []int
	if a != nil {
		if a.LeftOut > 0 {
			s.count(reasonCorrupt)
			s.log.Warn("the store's archive has series that no exposition may have; they are left out for good",
				"left_out", a.LeftOut)
		}
		src.archived.counts = make([]int, len(a.Families))
	}
	kept := make([][]*contribution, len(src.archived.counts))
	for i := range kept {
		f := &a.Families[i]
		key := f.Key()
		if old, ok := known[key]; ok && a.ThisBoot == before.archive.ThisBoot && sameArchived(f, old.family) {
			kept[i] = old.contributions
			delete(known, key)
			continue
		}
		fresh = append(fresh, i)
	}
	for _, old := range known {
		for _, d := range old.contributions {
			s.removeContribution(d)
		}
	}
	for _, i := range fresh {
		kept[i] = s.newArchived(&a.Families[i], a.ThisBoot)
	}
	for i, contributions := range kept {
		src.archived.counts[i] = len(contributions)
		src.archived.contributions = append(src.archived.contributions, contributions...)
	}
}

// archivedPlan is a family of an archive in the plan.
type archivedPlan struct {
	family        *shmstore.ArchivedFamily
	contributions []*contribution
}

// byKey returns the families that are in the plan. Should several have one key, the contributions are all of the first.
func (a *archived) byKey() map[string]archivedPlan {
	plans := make(map[string]archivedPlan, len(a.counts))
	contributions := a.contributions
	for i, n := range a.counts {
		f := &a.archive.Families[i]
		key := f.Key()
		if p, twice := plans[key]; twice {
			plans[key] = archivedPlan{nil, append(slices.Clip(p.contributions), contributions[:n]...)}
		} else {
			plans[key] = archivedPlan{f, contributions[:n:n]}
		}
		contributions = contributions[n:]
	}
	return plans
}

// sameFamilies reports whether two archives share their families.
func sameFamilies(a, b *shmstore.Archive) bool {
	return len(a.Families) == len(b.Families) && len(a.Families) > 0 && &a.Families[0] == &b.Families[0]
}

// sameArchived reports whether a family has the same definition and series as old, which may be nil.
func sameArchived(f, old *shmstore.ArchivedFamily) bool {
	return old != nil && f.Help == old.Help && f.Unit == old.Unit && f.Ready == old.Ready && f.ReadyAt == old.ReadyAt &&
		len(f.Series)+len(old.Series) == 0 && f.Packed.Same(old.Packed)
}

// newArchived takes a family of an archive into the plan.
func (s *Store) newArchived(f *shmstore.ArchivedFamily, thisBoot bool) []*contribution {
	if !usable(&f.Family) {
		return nil
	}
	contributions, err := archivedContributions(f, thisBoot)
	if err != nil {
		s.count(reasonCorrupt)
		s.log.Warn("a family of the store's archive cannot be read", "family", f.Name, "error", err)
		return nil
	}
	for _, d := range contributions {
		s.addContribution(d)
	}
	return contributions
}

// archivedContributions returns what an archived family declares: all of its series, or, of gauges of mode all, those of each slot
// by themselves, which rank as the process that had them.
func archivedContributions(f *shmstore.ArchivedFamily, thisBoot bool) ([]*contribution, error) {
	info := shmstore.Info{Name: "archive", Slot: -1, ThisBoot: thisBoot}
	whole := &contribution{origin: &origin.Origin{Info: info, Ready: f.Ready, Since: int64(f.ReadyAt)}, def: f.Family, outranked: true}
	slots := map[int]*contribution{}
	series := f.All()
	for i := range series {
		s := &series[i]
		p, err := accumulator.FromWords(&f.Family, s.Words, thisBoot)
		if err != nil {
			return nil, err
		}
		if f.Mode != shmstore.All {
			whole.archived = append(whole.archived, archivedSeries{s, p})
			continue
		}
		for n, value := range *p.(*accumulator.SlotGauges) {
			d := slots[n]
			if d == nil {
				rank := value.Rank
				rank.Info.Name = info.Name
				d = &contribution{origin: &rank, def: f.Family, outranked: true}
				slots[n] = d
			}
			d.archived = append(d.archived, archivedSeries{s, accumulator.GaugeOf(value.Value)})
		}
	}
	contributions := make([]*contribution, 0, 1+len(slots))
	if f.Mode != shmstore.All {
		contributions = append(contributions, whole)
	}
	for _, d := range slots {
		contributions = append(contributions, d)
	}
	return contributions, nil
}

// archivedSeries is one series of an archived contribution.
type archivedSeries struct {
	*shmstore.ArchivedSeries
	value accumulator.Accumulator
}

// planArchived makes the entries of an archived contribution anew, if it has to.
func (d *contribution) planArchived() {
	if !d.stale || d.outranked {
		return
	}
	d.stale = false
	d.clear()
	for i, s := range d.archived {
		d.planSeries(i, &shmstore.SeriesInfo{Values: s.Values, Created: s.Created.UnixNano()})
	}
}

// mergeArchived adds what dead processes have left to the family's rows.
func (d *contribution) mergeArchived() {
	f := d.family
	for e := range d.shown.each {
		f.presence[e.row] |= archivedShown | counted
		for i := range d.archived[e.series].Exemplars {
			f.offerExemplar(e.row, &d.archived[e.series].Exemplars[i])
		}
		switch a := d.archived[e.series].value.(type) {
		case *accumulator.Counter:
			f.counters.AddCounter(e.row, a)
		case *accumulator.Gauge:
			f.gauges[e.row].AddGauge(a, d.origin)
		case *accumulator.Native:
			f.sums[e.row].AddSum(&a.Finite.Sum)
			d.addNative(e.row, a.Finite.Counts, a.Buckets)
		case *accumulator.Histogram:
			f.sums[e.row].AddSum(&a.Sum)
			d.addCounts(e.row, a.Counts)
		}
	}
}

// addContribution adds a contribution to the family that it is of.
func (s *Store) addContribution(d *contribution) {
	name := planName(&d.def)
	f := s.families[name]
	if f == nil {
		f = newFamily(name, s.options.Label)
		s.families[name] = f
	}
	d.family = f
	if i := slices.IndexFunc(f.contributions, func(o *contribution) bool { return slices.Equal(o.def.Labels, d.def.Labels) }); i >= 0 {
		d.def.Labels = f.contributions[i].def.Labels
	}
	f.contributions = append(f.contributions, d)
	f.dirty = true
	d.adapt(d.def.Type != f.rule.Type)
}

// removeContribution takes a contribution out of its family.
func (s *Store) removeContribution(d *contribution) {
	if d.family == nil {
		return
	}
	d.clear()
	d.family.contributions = slices.DeleteFunc(d.family.contributions, func(o *contribution) bool { return o == d })
	d.family.dirty = true
}
