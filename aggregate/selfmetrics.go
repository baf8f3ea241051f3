package aggregate

import (
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// selfMetrics is what the store says of itself.
type selfMetrics struct {
	live, dead       int
	bytes            int64
	series, overflow int
	folds            uint64
	blocked          time.Duration  // for how long a fold has been waiting
	errors           map[string]int // by reason
	conflicts        map[string]int // by family
	known            []string       // conflicts that are counted, the oldest first
}

// Totals are the counts of what a Store left out: the values of onescrape_store_errors_total by reason, and of
// onescrape_merge_conflicts_total by family. Give them to the Options of the next Store, so that these counters do not
// fall. A file that still cannot be read is counted once more; a conflict is not.
type Totals struct {
	Errors    map[string]int `json:"errors,omitempty"`
	Conflicts map[string]int `json:"conflicts,omitempty"`
	// KnownConflicts says which these were, for a Store only.
	KnownConflicts []string `json:"known_conflicts,omitempty"`
}

// knownConflicts is how many conflicts are remembered. The oldest is forgotten then, and is counted again if it comes back.
const knownConflicts = 256

// conflictID is what tells a conflict from others: what is left out, and what rules.
func conflictID(left, rules string) string {
	h := fnv.New64a()
	io.WriteString(h, left)
	h.Write([]byte{0xff}) // is in no UTF-8
	io.WriteString(h, rules)
	return strconv.FormatUint(h.Sum64(), 36)
}

// newConflict reports whether a conflict is not known yet, and remembers it.
func (st *selfMetrics) newConflict(id string) bool {
	if slices.Contains(st.known, id) {
		return false
	}
	if st.known = append(st.known, id); len(st.known) > knownConflicts {
		st.known = slices.Delete(st.known, 0, 1)
	}
	return true
}

// Totals returns the current totals of the Store.
func (s *Store) Totals() Totals {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return Totals{Errors: maps.Clone(s.selfMetrics.errors), Conflicts: maps.Clone(s.selfMetrics.conflicts),
		KnownConflicts: slices.Clone(s.selfMetrics.known)}
}

func newSelfMetrics(before Totals) selfMetrics {
	st := selfMetrics{errors: map[string]int{}, conflicts: map[string]int{}}
	maps.Copy(st.errors, before.Errors)
	maps.Copy(st.conflicts, before.Conflicts)
	st.known = slices.Clone(before.KnownConflicts)
	return st
}

// Names of the families that every scrape has besides the users', whose families of these names are left out.
const (
	nameFiles     = "onescrape_store_files"
	nameBytes     = "onescrape_store_bytes"
	nameSeries    = "onescrape_store_series"
	nameOverflow  = "onescrape_store_overflow_series"
	nameFolds     = "onescrape_store_folds_total"
	nameBlocked   = "onescrape_store_fold_blocked_seconds"
	nameErrors    = "onescrape_store_errors_total"
	nameConflicts = "onescrape_merge_conflicts_total"
)

var ownNames = []string{nameConflicts, nameBytes, nameErrors, nameFiles, nameBlocked, nameFolds, nameOverflow, nameSeries}

// collectSelfMetrics counts what the pass has read.
func (s *Store) collectSelfMetrics() {
	st := &s.selfMetrics
	st.live, st.dead, st.bytes, st.series, st.overflow, st.folds = 0, 0, 0, 0, 0, 0
	for _, src := range s.sources {
		if a := src.archived.archive; a != nil {
			st.folds += a.Generation
		}
	}
	st.blocked = s.blockedFor()
	for _, f := range s.files {
		if f.contributions == nil {
			continue
		}
		if f.Alive {
			st.live++
			st.overflow += f.state.Overflow
		} else {
			st.dead++
		}
		st.bytes += f.state.Reserved
		for _, d := range f.contributions {
			st.series += len(d.shown.rows)
		}
	}
}

// families returns the store's own metric families, sorted.
func (st *selfMetrics) families() []*dto.MetricFamily {
	families := []*dto.MetricFamily{
		ownGauge(nameBytes, "Bytes of the store's files that are merged.", float64(st.bytes)),
		ownCounter(nameErrors, "Files, or parts of them, that came to be left out of the merge, by reason.", "reason",
			reasons, st.errors),
		{
			Name: new(nameFiles),
			Help: new("Files of the store that are merged, of live and of dead processes."),
			Type: dto.MetricType_GAUGE.Enum(),
			Metric: []*dto.Metric{
				{Label: labelPairs([]string{"state"}, []string{"dead"}), Gauge: &dto.Gauge{Value: new(float64(st.dead))}},
				{Label: labelPairs([]string{"state"}, []string{"live"}), Gauge: &dto.Gauge{Value: new(float64(st.live))}},
			},
		},
		ownGauge(nameBlocked, "For how long a fold of this process has been waiting for another process that holds the lock.",
			st.blocked.Seconds()),
		{
			Name:   new(nameFolds),
			Help:   new("Times that the archive was written, by whichever process folded."),
			Type:   dto.MetricType_COUNTER.Enum(),
			Metric: []*dto.Metric{{Counter: &dto.Counter{Value: new(float64(st.folds))}}},
		},
		ownGauge(nameOverflow, "Series of live processes that found no space in the store and die with their process.",
			float64(st.overflow)),
		ownGauge(nameSeries, "Series in the store's files that are merged, before the merge.", float64(st.series)),
	}
	if len(st.conflicts) > 0 {
		c := ownCounter(nameConflicts, "Definitions that came to be left out of the merge because another one rules.",
			"family", slices.Collect(maps.Keys(st.conflicts)), st.conflicts)
		families = append([]*dto.MetricFamily{c}, families...)
	}
	return families
}

func ownGauge(name, help string, v float64) *dto.MetricFamily {
	return &dto.MetricFamily{Name: &name, Help: &help, Type: dto.MetricType_GAUGE.Enum(),
		Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: &v}}}}
}

func ownCounter(name, help, label string, values []string, counts map[string]int) *dto.MetricFamily {
	f := &dto.MetricFamily{Name: &name, Help: &help, Type: dto.MetricType_COUNTER.Enum()}
	slices.SortFunc(values, strings.Compare)
	for _, v := range values {
		f.Metric = append(f.Metric, &dto.Metric{
			Label:   labelPairs([]string{label}, []string{v}),
			Counter: &dto.Counter{Value: new(float64(counts[v]))},
		})
	}
	return f
}
