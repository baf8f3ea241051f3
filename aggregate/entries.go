package aggregate

import "slices"

// entry is one series of a contribution: its number in the file, its first cell and its row in the family.
type entry struct{ series, cell, row int32 }

// entries are a list of entries, one array for each field: a pass goes over the cells of a whole file and then over its
// rows, and what it does not need stays out of the processor's caches.
type entries struct {
	series, cells, rows []int32
	runs                []run // the same cells and rows, in this order
}

// run are n entries of which each has its cells one line of the cache behind the one before, and its row is the next one.
// That is how the cells of a process lie that makes its series one after the other (see shmstore's FORMAT.md), so the
// entries of 10,000 counters are some hundred runs.
type run struct{ cell, row, n int32 }

// runStride is how many words a line has.
const runStride = 8

func (l *entries) add(e entry) {
	l.series, l.cells, l.rows = append(l.series, e.series), append(l.cells, e.cell), append(l.rows, e.row)
	if n := len(l.runs); n > 0 {
		r := &l.runs[n-1]
		if e.row == r.row+r.n && e.cell == r.cell+r.n*runStride {
			r.n++
			return
		}
	}
	l.runs = append(l.runs, run{e.cell, e.row, 1})
}

// grow makes room for n entries more.
func (l *entries) grow(n int) {
	l.series, l.cells, l.rows = slices.Grow(l.series, n), slices.Grow(l.cells, n), slices.Grow(l.rows, n)
}

func (l *entries) clear() {
	l.series, l.cells, l.rows, l.runs = l.series[:0], l.cells[:0], l.rows[:0], l.runs[:0]
}

// each is an iterator over the entries.
func (l entries) each(yield func(entry) bool) {
	for i, row := range l.rows {
		if !yield(entry{l.series[i], l.cells[i], row}) {
			return
		}
	}
}
