package aggregate

import (
	"errors"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// errCollision: families of two sources are to be checked against each other, which prometheus.Gatherers does.
var errCollision = errors.New("aggregate: two sources of metrics have samples of one name")

// appendText appends the families of these names, or all, and those of beside, unless that is nil. The error is that the
// Store was closed, one of beside, or errCollision; then what was appended means nothing.
func (s *Store) appendText(b []byte, x exposition, names []string, beside prometheus.Gatherer) ([]byte, error) {
	if err := s.fresh(); err != nil {
		return b, err
	}
	var others []*dto.MetricFamily
	if beside != nil {
		var err error
		if others, err = beside.Gather(); err != nil {
			return b, err
		}
	}
	var clashes *clashes
	defer func() { s.countClashes(clashes) }() // without the lock for reading
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return b, errClosed
	}
	own := s.selfMetrics.families()
	if s.collides(others, own) {
		return b, errCollision
	}
	others = append(others, own...)
	slices.SortFunc(others, byName)
	wanted := namesAmong(names)
	if x.syntax == openMetrics {
		if clashes = s.clashing(others); len(clashes.found) > 0 {
			wanted = func(name string) bool { return clashes.found[name] == "" && namesAmong(names)(name) }
		}
	}
	return x.appendAll(b, &s.plan, wanted, others)
}

// collect returns the families that are wanted. The caller holds the lock.
func (s *Store) collect(wanted func(name string) bool) (families []*dto.MetricFamily) {
	for _, f := range s.exposed {
		if wanted(f.name) {
			families = append(families, f.output())
		}
	}
	for _, mf := range s.selfMetrics.families() {
		if wanted(mf.GetName()) {
			families = append(families, mf)
		}
	}
	slices.SortFunc(families, byName)
	return families
}

// sampleSuffixes are what names of samples have behind the family's.
var sampleSuffixes = []string{"_bucket", "_count", "_sum"}

// collides reports whether a family of others could have a sample with the name of one of ours.
func (s *Store) collides(others, own []*dto.MetricFamily) bool {
	if len(others) == 0 {
		return false
	}
	taken := make(map[string]bool, len(s.exposed)+len(own))
	for _, f := range s.exposed {
		taken[f.name] = true
	}
	for _, mf := range own {
		taken[mf.GetName()] = true
	}
	return slices.ContainsFunc(others, func(mf *dto.MetricFamily) bool {
		name := mf.GetName()
		return taken[name] || slices.ContainsFunc(sampleSuffixes, func(suffix string) bool {
			short, cut := strings.CutSuffix(name, suffix)
			return taken[name+suffix] || cut && taken[short]
		})
	})
}
