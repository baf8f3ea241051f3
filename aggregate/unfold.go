package aggregate

import (
	"maps"

	"github.com/onescrape/onescrape/aggregate/internal/accumulator"
	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
)

// archivedIndex finds the families of an archive.
type archivedIndex struct {
	keys   []string         // of each family
	byKey  map[string]int   // the first with that key
	byName map[string][]int // all with that name
}

// begin takes over what the last archive has taken, and finds out which families it has.
func (f *fold) begin() {
	f.archived = archivedIndex{byKey: map[string]int{}, byName: map[string][]int{}}
	if f.last == nil {
		return
	}
	maps.Copy(f.archivedThrough, f.last.ArchivedThrough)
	for i := range f.last.Families {
		a := &f.last.Families[i]
		key := a.Key()
		f.archived.keys = append(f.archived.keys, key)
		if _, known := f.archived.byKey[key]; !known {
			f.archived.byKey[key] = i
		}
		f.archived.byName[a.Name] = append(f.archived.byName[a.Name], i)
	}
}

// wants are archived series that a fold may change, or that are in use: of these families, by key.
type wants struct {
	series map[string]map[string]bool // by packed label values
	whole  map[string]bool            // families of which it may change every series
	all    bool                       // families of which nothing else is said come along, but not their series
}

func newWants() *wants { return &wants{series: map[string]map[string]bool{}, whole: map[string]bool{}} }

func (w *wants) add(key, values string) {
	if w.series[key] == nil {
		w.series[key] = map[string]bool{}
	}
	w.series[key][values] = true
}

// addAll adds, of each archived family of one name and type, the series that is the same to Prometheus.
func (w *wants) addAll(f *fold, s labelSet) {
	for _, i := range f.archived.byName[s.def.Name] {
		a := &f.last.Families[i]
		if values, ok := s.as(a.Labels); ok && a.Type == s.def.Type {
			w.add(f.archived.keys[i], values)
		}
	}
}

// as returns the packed values that make the series the same to Prometheus with these label names; false when none do.
func (s labelSet) as(names []string) (packed string, ok bool) {
	values := make([]string, len(names))
	n := 0 // the names are ascending
	for i, name := range s.def.Labels {
		for n < len(names) && names[n] < name {
			n++
		}
		if n < len(names) && names[n] == name {
			values[n] = s.values[i]
		} else if s.values[i] != "" {
			return "", false
		}
	}
	return packedKey(values), true
}

// packedKey is different for different lists of label values of one length.
func packedKey(values []string) string { return string(shmstore.AppendPackedValues(nil, values)) }

// wants returns what dead processes add to, and what living ones have released. A dead process that declares gauges of mode
// all takes its slot, so all series of that family may change.
func (f *fold) wants(dead, live []reader) *wants {
	w := newWants()
	add := func(r reader, alive bool) {
		taken, series := f.lastTaken(r), r.Series()
		keys := make([]string, len(r.Families()))
		for i := range r.Families() {
			def := &r.Families()[i]
			keys[i] = def.Key()
			if def.Mode == shmstore.All && !alive {
				w.whole[keys[i]] = true
			}
		}
		for i := range series {
			s := &series[i]
			if s.Free || s.Release > 0 && s.Release <= taken || alive && !final(r, s) {
				continue
			}
			if key := keys[s.Family]; !w.whole[key] && f.has(key) {
				w.add(key, packedKey(s.Values))
			}
		}
	}
	for _, r := range dead {
		add(r, false)
	}
	for _, r := range live {
		if f.released(r) {
			add(r, true)
		}
	}
	if f.last != nil && !f.last.ThisBoot {
		// Times of an earlier boot's clock are the earliest of this one's.
		for i := range f.last.Families {
			if mode := f.last.Families[i].Mode; mode == shmstore.All || mode == shmstore.MostRecent {
				w.whole[f.archived.keys[i]] = true
			}
		}
	}
	return w
}

// has reports whether the last archive has a family with that key.
func (f *fold) has(key string) bool {
	_, known := f.archived.byKey[key]
	return known
}

// addDeleted adds what every process that had it has deleted.
func (w *wants) addDeleted(f *fold) {
	for key, p := range f.present {
		if p.over() {
			w.addAll(f, f.deleted[key])
		}
	}
}

// unfold decodes what is wanted of the last archive, unless that was done already.
func (f *fold) unfold(w *wants) {
	if f.last == nil {
		return
	}
	for i := range f.last.Families {
		key := f.archived.keys[i]
		if f.families[key] != nil || f.archived.byKey[key] != i {
			continue
		}
		if series := w.series[key]; w.whole[key] || len(series) > 0 || w.all {
			f.unfoldFamily(key, i, func(values []byte) bool { return w.whole[key] || series[string(values)] })
		}
	}
}

func (f *fold) unfoldFamily(key string, i int, want func(values []byte) bool) {
	a := &f.last.Families[i]
	to := &foldedFamily{def: a.Family, ready: a.Ready, readyAt: a.ReadyAt, series: map[string]*seriesAccumulator{},
		slotOwners: map[int]origin.Origin{}}
	wanted, rest := a.Packed.Take(want)
	to.rest = rest
	for _, s := range append(wanted, a.Series...) {
		p, err := accumulator.FromWords(&a.Family, s.Words, f.last.ThisBoot)
		if err != nil {
			f.unread = append(f.unread, shmstore.ArchivedFamily{Family: a.Family, Ready: a.Ready, ReadyAt: a.ReadyAt,
				Series: []shmstore.ArchivedSeries{s}})
			continue
		}
		if slots, ok := p.(*accumulator.SlotGauges); ok {
			for slot, value := range *slots {
				to.slotOwners[slot] = value.Rank
			}
		}
		sum := &seriesAccumulator{values: s.Values, created: s.Created, age: s.Age, sum: p}
		for j := range s.Exemplars {
			sum.exemplars.offer(&a.Family, &s.Exemplars[j])
		}
		to.series[packedKey(s.Values)] = sum
	}
	f.families[key] = to
}
