package aggregate

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/onescrape/onescrape/aggregate/internal/origin"
)

// In OpenMetrics a family has more names than in the text format: a counter is called what is before its _total, and
// counters, histograms and summaries may have a sample _created. A parser refuses the whole exposition when two families
// have a name in common, so the one that comes later is left out there.

// reservedSuffixes are what OpenMetrics may put behind the name of a family of a type.
var reservedSuffixes = map[dto.MetricType][]string{
	dto.MetricType_COUNTER:         {"", "_total", "_created"},
	dto.MetricType_HISTOGRAM:       {"", "_bucket", "_count", "_sum", "_created"},
	dto.MetricType_GAUGE_HISTOGRAM: {"", "_bucket", "_gcount", "_gsum"},
	dto.MetricType_SUMMARY:         {"", "_count", "_sum", "_created"},
	dto.MetricType_GAUGE:           {""},
	dto.MetricType_UNTYPED:         {""},
}

// typedName is a family as far as its names in OpenMetrics depend on it.
type typedName struct {
	name string
	kind dto.MetricType
}

// reserved returns the names that the family has in OpenMetrics, without what they all begin with.
func (n typedName) reserved() (base string, suffixes []string) {
	if n.kind == dto.MetricType_COUNTER {
		base, total := strings.CutSuffix(n.name, "_total")
		if !total {
			return n.name, []string{"", "_created"} // of type unknown, with a created time
		}
		return base, reservedSuffixes[n.kind]
	}
	return n.name, reservedSuffixes[n.kind]
}

// openMetricsClashes returns the families that are left out in OpenMetrics, each with the one that has a name of its.
// Those that are kept in any case come first in families.
func openMetricsClashes(families []typedName) map[string]string {
	clashes := map[string]string{}
	taken := make(map[string]string, 2*len(families))
	for _, n := range families {
		base, suffixes := n.reserved()
		i := slices.IndexFunc(suffixes, func(suffix string) bool { return taken[base+suffix] != "" })
		if i >= 0 {
			clashes[n.name] = taken[base+suffixes[i]]
			continue
		}
		for _, suffix := range suffixes {
			taken[base+suffix] = n.name
		}
	}
	return clashes
}

// clashes remembers what openMetricsClashes has found, as long as the families stay the same.
type clashes struct {
	families []typedName
	found    map[string]string
	counted  atomic.Bool
}

// clashing returns which families are left out in OpenMetrics. The caller holds the lock for reading.
func (s *Store) clashing(others []*dto.MetricFamily) *clashes {
	// The store's own come first, then all in the order of the exposition.
	families := make([]typedName, 0, len(s.exposed)+len(others))
	for _, mf := range others {
		if slices.Contains(ownNames, mf.GetName()) {
			families = append(families, typedName{mf.GetName(), mf.GetType()})
		}
	}
	own := len(families)
	for _, f := range s.exposed {
		families = append(families, typedName{f.name, outputTypes[f.rule.Type]})
	}
	for _, mf := range others {
		if !slices.Contains(ownNames, mf.GetName()) {
			families = append(families, typedName{mf.GetName(), mf.GetType()})
		}
	}
	slices.SortStableFunc(families[own:], func(a, b typedName) int { return strings.Compare(a.name, b.name) })
	last := s.clashes.Load()
	if last == nil || !slices.Equal(last.families, families) {
		last = &clashes{families: families, found: openMetricsClashes(families)}
		s.clashes.Store(last)
	}
	return last
}

// countClashes counts and logs what is left out in OpenMetrics, each once.
func (s *Store) countClashes(c *clashes) {
	if c == nil || len(c.found) == 0 || c.counted.Swap(true) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for name, other := range c.found {
		s.conflict(name, conflictID("OpenMetrics "+name, other), "collides_with", other, "format", "OpenMetrics")
	}
}

// withoutClashes gathers what can be exposed in OpenMetrics.
func withoutClashes(from prometheus.Gatherer) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		all, err := from.Gather()
		families := make([]typedName, 0, len(all))
		for _, mf := range all {
			families = append(families, typedName{mf.GetName(), mf.GetType()})
		}
		slices.SortStableFunc(families, func(a, b typedName) int {
			return origin.CompareBool(slices.Contains(ownNames, b.name), slices.Contains(ownNames, a.name))
		})
		found := openMetricsClashes(families)
		return slices.DeleteFunc(all, func(mf *dto.MetricFamily) bool { return found[mf.GetName()] != "" }), err
	})
}
