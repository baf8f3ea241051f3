package aggregate

import (
	"slices"
	"strings"
)

// linesAtOnce is how many lines of one kind a pass logs. More become one, with their number and the first names.
const linesAtOnce = 10

// report is one thing that a pass has found wrong with a file, to be logged when the pass is over.
type report struct {
	file string
	args []any
}

// reports are those of one pass, by message.
type reports map[string][]report

func (r reports) add(message, file string, args ...any) {
	r[message] = append(r[message], report{file, args})
}

// logReports logs what the pass has found.
func (s *Store) logReports() {
	for message, all := range s.reports {
		slices.SortStableFunc(all, func(a, b report) int { return strings.Compare(a.file, b.file) })
		if len(all) > linesAtOnce {
			var first []string
			for _, r := range all[:linesAtOnce] {
				first = append(first, r.file)
			}
			s.log.Warn(message, append([]any{"files", len(all), "first", strings.Join(first, " ")}, all[0].args...)...)
		} else {
			for _, r := range all {
				s.log.Warn(message, append([]any{"file", r.file}, r.args...)...)
			}
		}
		delete(s.reports, message)
	}
}
