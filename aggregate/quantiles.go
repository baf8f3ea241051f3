package aggregate

import (
	"cmp"
	"slices"
	"strconv"

	dto "github.com/prometheus/client_model/go"

	"github.com/onescrape/onescrape/shmstore"
)

// A summary that worker.Export publishes has quantiles that its source has computed, and what they were computed from
// is gone. They are a family of gauges beside the summary (shmstore.Family.QuantileLines), merged as gauges are, by the
// largest of the living: no quantile of the whole server is larger than the largest of its workers', so an alert on
// "too slow" is never late. When the summary is output they become its lines.

// linesSuffix follows a summary's name in the name under which a Store keeps its lines. It is not UTF-8, so no other
// family is called that.
const linesSuffix = "\xff"

// planName is the name under which a Store keeps a definition's family.
func planName(def *shmstore.Family) string {
	if def.QuantileLines {
		return def.Name + linesSuffix
	}
	return def.Name
}

// quantileLines returns the lines of each row of a summary, ascending; nil where there are none.
func (s *Store) quantileLines(f *family) map[string][]*dto.Quantile {
	lines := s.families[f.name+linesSuffix]
	if lines == nil || f.rule.Type != shmstore.SummaryType {
		return nil
	}
	all := map[string][]*dto.Quantile{}
	for _, n := range lines.order {
		if !lines.visible(n) {
			continue
		}
		var names, values []string
		var quantile string
		for _, l := range lines.rows[n].labels {
			if l.GetName() == shmstore.QuantileLabel {
				quantile = l.GetValue()
			} else {
				names, values = append(names, l.GetName()), append(values, l.GetValue())
			}
		}
		q, err := strconv.ParseFloat(quantile, 64)
		if err != nil || !(q >= 0 && q <= 1) {
			continue
		}
		key := string(identity(nil, names, values))
		all[key] = append(all[key], &dto.Quantile{Quantile: &q, Value: new(lines.values[n])})
	}
	for key, row := range all {
		slices.SortStableFunc(row, func(a, b *dto.Quantile) int { return cmp.Compare(a.GetQuantile(), b.GetQuantile()) })
		// "0.5" and "0.50" are two series and one quantile.
		all[key] = slices.CompactFunc(row, func(a, b *dto.Quantile) bool { return a.GetQuantile() == b.GetQuantile() })
	}
	return all
}
