package aggregate

import (
	"cmp"
	"iter"
	"math"
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

// quantileLine is one line of a row of a summary: its value is that of a row of the family of lines.
type quantileLine struct {
	quantile float64
	row      int32
}

// quantileLines are the lines of all rows of a summary.
type quantileLines struct {
	of       *family                   // what the sources have computed; nil: nothing
	arranged uint64                    // when rows were found in it
	rows     map[string][]quantileLine // by the keys of rows, ascending
}

// findLines makes the lines of each row of a summary part of the plan, by the row's key and ascending, unless nothing has
// changed since it was done last.
func (s *Store) findLines(f *family) {
	lines := s.families[f.name+linesSuffix]
	if lines == nil || f.rule.Type != shmstore.SummaryType {
		f.lines = quantileLines{}
		return
	}
	if f.lines.of == lines && f.lines.arranged == lines.arranged {
		return
	}
	f.lines = quantileLines{lines, lines.arranged, map[string][]quantileLine{}}
	for _, n := range lines.order {
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
		f.lines.rows[key] = append(f.lines.rows[key], quantileLine{q, n})
	}
	for _, row := range f.lines.rows {
		slices.SortStableFunc(row, func(a, b quantileLine) int { return cmp.Compare(a.quantile, b.quantile) })
	}
}

// eachLine is an iterator over the quantiles of a row of a summary and their values.
func (f *family) eachLine(row int32) iter.Seq2[float64, float64] {
	return func(yield func(quantile, value float64) bool) {
		last := math.NaN()
		for _, l := range f.lines.rows[f.rows[row].key] {
			// "0.5" and "0.50" are two series and one quantile.
			if l.quantile == last || !f.lines.of.visible(l.row) {
				continue
			}
			if last = l.quantile; !yield(last, f.lines.of.values[l.row]) {
				return
			}
		}
	}
}

// outputLines returns the quantiles of a row of a summary; nil: it has none.
func (f *family) outputLines(row int32) (all []*dto.Quantile) {
	for q, v := range f.eachLine(row) {
		all = append(all, &dto.Quantile{Quantile: &q, Value: &v})
	}
	return all
}
