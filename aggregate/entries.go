package aggregate

// entry is one series of a declaration: its number in the file, its first cell and its row in the family.
type entry struct{ series, cell, row int32 }

// entries are a list of entries, one array for each field: a pass goes over the cells of a whole file and then over its
// rows, and what it does not need stays out of the processor's caches.
type entries struct{ series, cells, rows []int32 }

func (l *entries) add(e entry) {
	l.series, l.cells, l.rows = append(l.series, e.series), append(l.cells, e.cell), append(l.rows, e.row)
}

func (l *entries) clear() { l.series, l.cells, l.rows = l.series[:0], l.cells[:0], l.rows[:0] }

// each is an iterator over the entries.
func (l entries) each(yield func(entry) bool) {
	for i, row := range l.rows {
		if !yield(entry{l.series[i], l.cells[i], row}) {
			return
		}
	}
}
