package aggregate

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// modelProcess is what a process has written, and modelStore the merge of several, computed from scratch by the rules
// of the package's documentation in the plainest way.
type modelProcess struct {
	slot, started, readyAt int // in the order of events
	alive                  bool
	folded                 bool
	series                 []*modelSeries
}

type modelSeries struct {
	family   shmstore.Family
	values   string
	hidden   bool
	released bool
	whole    uint64
	floats   []float64 // that were added
	counts   []uint64  // of buckets
	set      bool
	value    float64
	at       int
}

type modelStore []*modelProcess

func (p *modelProcess) find(s action) *modelSeries {
	for _, series := range p.series {
		if !series.hidden && series.family.Key() == s.Family.Key() && series.values == s.Values[0] {
			return series
		}
	}
	series := &modelSeries{family: s.Family, values: s.Values[0], counts: make([]uint64, len(s.Family.Bounds)+1)}
	p.series = append(p.series, series)
	return series
}

func (p *modelProcess) apply(s action, now int) {
	if s.Do == "ready" {
		if p.readyAt == 0 {
			p.readyAt = now
		}
		return
	}
	if s.Do == "release" {
		for _, series := range p.series {
			series.released = series.hidden
		}
		return
	}
	series := p.find(s)
	switch s.Do {
	case "add":
		if s.V == math.Trunc(s.V) {
			series.whole += uint64(s.V)
		} else {
			series.floats = []float64{sumOf(append(series.floats, s.V))} // a process rounds each time
		}
	case "set":
		series.set, series.value, series.at = true, s.V, now
	case "observe":
		series.floats = []float64{sumOf(append(series.floats, s.V))}
		series.whole++
		i := slices.IndexFunc(s.Family.Bounds, func(b float64) bool { return s.V <= b })
		if i < 0 {
			i = len(s.Family.Bounds)
		}
		series.counts[i]++
	case "delete":
		series.hidden = true
	}
}

func sumOf(values []float64) (s float64) {
	for _, v := range values {
		s += v
	}
	return s
}

func (p *modelProcess) newer(o *modelProcess) bool {
	if (p.readyAt > 0) != (o.readyAt > 0) {
		return p.readyAt > 0
	}
	if p.readyAt != o.readyAt {
		return p.readyAt > o.readyAt
	}
	return p.started > o.started
}

// rules reports whether p's definitions go before o's.
func (p *modelProcess) rules(o *modelProcess) bool {
	if serves, other := p.alive && p.readyAt > 0, o.alive && o.readyAt > 0; serves != other {
		return serves
	}
	return p.newer(o)
}

// visible reports whether a counter, histogram or summary is exposed.
func (m modelStore) visible(name string, typ shmstore.Type, values string) bool {
	var live, dead, archived struct{ any, shown bool }
	for _, p := range m {
		for _, s := range p.series {
			if s.family.Name != name || s.family.Type != typ || s.values != values {
				continue
			}
			of := &live
			if p.folded {
				of = &archived
			} else if !p.alive {
				of = &dead
			}
			of.any, of.shown = true, of.shown || !s.hidden
		}
	}
	switch {
	case live.any:
		return live.shown
	case dead.any:
		return dead.shown
	default:
		return archived.shown
	}
}

// fold does to the model what a fold is to do to the store: what nobody shows any more nor can add to is forgotten, what is
// final is one with the dead.
func (m *modelStore) fold() {
	type key struct {
		name   string
		typ    shmstore.Type
		values string
	}
	stays := map[key]bool{}
	for _, p := range *m {
		for _, s := range p.series {
			k := key{s.family.Name, s.family.Type, s.values}
			held := p.alive && s.hidden && !s.released
			stays[k] = stays[k] || held || m.visible(k.name, k.typ, k.values)
		}
	}
	for _, p := range slices.Clone(*m) {
		final := &modelProcess{slot: p.slot, started: p.started, readyAt: p.readyAt, folded: true}
		p.series = slices.DeleteFunc(p.series, func(s *modelSeries) bool {
			gauge := s.family.Mode != 0
			switch {
			case p.alive:
				if gauge || !s.released {
					return false
				}
			case gauge:
				return s.hidden || s.family.Mode.Live()
			}
			if !stays[key{s.family.Name, s.family.Type, s.values}] {
				return true
			}
			s.hidden = false
			if p.alive {
				final.series = append(final.series, s)
			}
			return p.alive
		})
		p.folded = !p.alive
		if len(final.series) > 0 {
			*m = append(*m, final)
		}
	}
}

func (p *modelProcess) declares(name string, typ shmstore.Type) bool {
	return slices.ContainsFunc(p.series,
		func(s *modelSeries) bool { return s.family.Name == name && s.family.Type == typ })
}

// family is what the store exposes under a name, one line a series.
func (m modelStore) family(name string) []string {
	var rule *shmstore.Family
	byRank := slices.SortedFunc(slices.Values(m), func(a, b *modelProcess) int {
		if a.newer(b) {
			return 1
		}
		return -1
	})
	for _, p := range slices.SortedFunc(slices.Values(m), func(a, b *modelProcess) int {
		if a.rules(b) {
			return 1
		}
		return -1
	}) {
		for _, s := range p.series {
			if s.family.Name == name {
				rule = &s.family
			}
		}
	}
	if rule == nil {
		return nil
	}
	type part struct {
		*modelSeries
		p *modelProcess
	}
	bySeries := map[string][]part{}
	for _, p := range byRank {
		for _, s := range p.series {
			if s.family.Name == name && s.family.Type == rule.Type {
				key := s.values
				if rule.Mode.Base() == shmstore.All {
					key = fmt.Sprintf("%s/%d", key, p.slot)
				}
				bySeries[key] = append(bySeries[key], part{s, p})
			}
		}
	}
	var lines []string
	for key, parts := range bySeries {
		if rule.Mode == 0 {
			if !m.visible(name, rule.Type, parts[0].values) {
				continue
			}
			total := new(big.Float).SetPrec(3000)
			counts := make([]uint64, len(rule.Bounds)+1)
			var count uint64
			for _, s := range parts {
				for _, v := range s.floats {
					total.Add(total, big.NewFloat(v))
				}
				if rule.Type == shmstore.CounterType {
					total.Add(total, new(big.Float).SetUint64(s.whole))
				}
				count += s.whole
				for i, n := range s.counts {
					to := len(rule.Bounds)
					if i < len(s.family.Bounds) {
						for to > 0 && rule.Bounds[to-1] >= s.family.Bounds[i] {
							to--
						}
					}
					counts[to] += n
				}
			}
			v, _ := total.Float64()
			line := fmt.Sprint(key, " ", v+0)
			if rule.Type != shmstore.CounterType {
				line += fmt.Sprint(" ", count)
			}
			if rule.Type == shmstore.HistogramType {
				for i, bound := range rule.Bounds {
					line += fmt.Sprintf(" %v:%d", bound, sumOfCounts(counts[:i+1]))
				}
			}
			lines = append(lines, line)
			continue
		}
		parts = slices.DeleteFunc(parts, func(s part) bool { return rule.Mode.Live() && !s.p.alive })
		if rule.Mode.Base() == shmstore.All && len(parts) > 0 {
			var speaker *modelProcess
			for _, p := range byRank {
				if p.slot == parts[0].p.slot && (p.alive || !rule.Mode.Live()) && p.declares(name, rule.Type) {
					speaker = p
				}
			}
			parts = slices.DeleteFunc(parts, func(s part) bool { return s.p != speaker })
		}
		parts = slices.DeleteFunc(parts, func(s part) bool { return s.hidden })
		if len(parts) == 0 {
			continue
		}
		var set []part
		for _, s := range parts {
			if s.set {
				set = append(set, s)
			}
		}
		var v float64
		if len(set) > 0 {
			v = set[0].value
			for _, s := range set[1:] {
				switch rule.Mode.Base() {
				case shmstore.Sum, shmstore.Avg:
					v += s.value // of whole numbers
				case shmstore.Min:
					v = min(v, s.value)
				case shmstore.Max:
					v = max(v, s.value)
				}
			}
			switch rule.Mode.Base() {
			case shmstore.Avg:
				v /= float64(len(set))
			case shmstore.MostRecent:
				at := func(s part) int {
					if s.family.Words() == shmstore.TimedWords {
						return s.at
					}
					return cmp.Or(s.p.readyAt, s.p.started) // the process kept no time
				}
				v = slices.MaxFunc(set, func(a, b part) int { return at(a) - at(b) }).value
			case shmstore.All:
				v = parts[len(parts)-1].value
			}
		}
		lines = append(lines, fmt.Sprint(key, " ", v))
	}
	slices.Sort(lines)
	return lines
}

func sumOfCounts(counts []uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// modelLines is a family as modelStore.family gives it.
func modelLines(mf *dto.MetricFamily) (lines []string) {
	for _, m := range mf.GetMetric() {
		var key []string
		for _, l := range m.Label {
			key = append(key, l.GetValue())
		}
		line := strings.Join(key, "/")
		switch {
		case m.Counter != nil:
			line += fmt.Sprint(" ", m.Counter.GetValue())
		case m.Gauge != nil:
			line += fmt.Sprint(" ", m.Gauge.GetValue())
		case m.Summary != nil:
			line += fmt.Sprint(" ", m.Summary.GetSampleSum(), " ", m.Summary.GetSampleCount())
		case m.Histogram != nil:
			line += fmt.Sprint(" ", m.Histogram.GetSampleSum(), " ", m.Histogram.GetSampleCount())
			for _, b := range m.Histogram.Bucket {
				line += fmt.Sprintf(" %v:%d", b.GetUpperBound(), b.GetCumulativeCount())
			}
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

// Random processes do random things, are born and killed; after each few steps a store that was open all the time, one
// that was opened just now, and the model agree.
func TestPlanFollowsTheModel(t *testing.T) { followModel(t, false) }

// The same with folds in between, of which the model knows only that what nobody shows is forgotten. Gauges keep their
// mode and every process says that it is ready, because an archive neither knows the slot of a gauge that is summed up nor
// in which order processes started.
func TestFoldFollowsTheModel(t *testing.T) { followModel(t, true) }

func followModel(t *testing.T, folds bool) {
	names := []string{"a", "b", "c", "d", "e", "f"}
	modes := []shmstore.GaugeMode{shmstore.All, shmstore.LiveAll, shmstore.Sum, shmstore.LiveSum, shmstore.Min,
		shmstore.LiveMin, shmstore.Max, shmstore.LiveMax, shmstore.Avg, shmstore.LiveAvg, shmstore.MostRecent,
		shmstore.LiveMostRecent}
	bounds := [][]float64{{1, 2, 4}, {1, 4}, {.5, 2, 3, 8}, {}}
	seeds, steps := 12, 250
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(seed), 99))
			dir := newDir(t)
			s := openStore(t, dir, Options{})
			var model modelStore
			var processes []*child
			now := 0
			// A release is a set of definitions; most steps are by processes of the two newest.
			release := func() []shmstore.Family {
				var families []shmstore.Family
				for i, name := range names {
					var f shmstore.Family
					switch kind := i; {
					case kind == 0 || r.IntN(12) == 0:
						f = counterFamily(name, "l")
					case kind == 1:
						f = histogramFamily(name, bounds[r.IntN(len(bounds))], "l")
					case kind == 2:
						f = summaryFamily(name, "l")
					case folds:
						f = gaugeFamily(name, modes[(int(seed)*3+i)%len(modes)], "l")
					default:
						f = gaugeFamily(name, modes[r.IntN(len(modes))], "l")
					}
					families = append(families, f)
				}
				return families
			}
			releases := [][]shmstore.Family{release()}
			uses := map[int]int{}
			check := func() {
				t.Helper()
				fresh := openStore(t, dir, Options{})
				require.Equal(t, users(t, fresh), users(t, s))
				all := gatherAll(t, s)
				for _, name := range names {
					var want []string
					if lines := model.family(name); len(lines) > 0 {
						want = lines
					}
					require.Equal(t, want, modelLines(all[name]), name)
				}
				requireStoreText(t, s)
				require.NoError(t, fresh.Close())
			}
			for i := range steps {
				now++
				switch n := r.IntN(100); {
				case n < 5 && folds:
					mustFold(t, s)
					model.fold()
				case len(processes) == 0 || n < 9 && len(processes) < 8:
					slot := r.IntN(3)
					processes = append(processes, startChild(t, dir, slot))
					process := &modelProcess{slot: slot, started: now, alive: true}
					// Behind the processes the model has what living ones have deleted.
					model = slices.Insert(model, len(processes)-1, process)
					if folds {
						now++
						processes[len(processes)-1].do(ready)
						process.apply(ready, now)
					}
					uses[len(processes)-1] = max(0, len(releases)-1-r.IntN(2))
				case n < 11:
					releases = append(releases, release())
				case n < 13 && len(processes) > 2:
					if k := r.IntN(len(processes)); model[k].alive {
						processes[k].killSeen(dir)
						model[k].alive = false
					}
				default:
					k := r.IntN(len(processes))
					if !model[k].alive {
						continue
					}
					f := releases[uses[k]][r.IntN(len(names))]
					st := action{Family: f, Values: []string{[]string{"x", "y", "z", "zz"}[r.IntN(4)]}}
					switch n := r.IntN(20); {
					case n == 0:
						st = ready
					case n == 1:
						st = action{Do: "release"}
					case n < 5:
						st.Do = "delete"
					case n == 5:
						st.Do = "make"
					case f.Type == shmstore.CounterType:
						st.Do, st.V = "add", float64(r.IntN(100))
						if r.IntN(2) == 0 {
							st.V = r.ExpFloat64()
						}
					case f.Type == shmstore.GaugeType:
						st.Do, st.V = "set", float64(r.IntN(100)-50)
					default:
						st.Do, st.V = "observe", r.NormFloat64()*4
					}
					processes[k].do(st)
					model[k].apply(st, now)
				}
				if i%5 == 0 {
					check()
				}
			}
			check()
			require.NotEmpty(t, slices.Collect(maps.Keys(s.families)))
		})
	}
}
