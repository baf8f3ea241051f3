package aggregate

import (
	"sync/atomic"

	"github.com/onescrape/onescrape/aggregate/internal/accumulator"
	"github.com/onescrape/onescrape/shmstore"
)

// addCounters adds a process's cells, which are where the runs say, and returns how many series were rejected. The rows of the
// others are marked.
func (c *columns) addCounters(runs []run, words []uint64, mark presence) (bad int) {
	t := &c.counters
	var rows span
	for _, r := range runs {
		from := words[r.cell:]
		if rows.end != r.row {
			c.mark(rows, mark)
			rows.begin = r.row
		}
		rows.end = r.row + r.n
		low := t.Low(r.row, r.n)
		for i := range low {
			pair := (*[shmstore.CounterWords]uint64)(from[i*runStride:])
			whole := atomic.LoadUint64(&pair[shmstore.CounterInteger])
			fraction := atomic.LoadUint64(&pair[shmstore.CounterFloat])
			if sum := low[i] + whole; fraction == 0 && sum >= whole && whole < accumulator.TooLarge {
				low[i] = sum
			} else if row := r.row + int32(i); !t.AddCells(row, whole, fraction) {
				bad++
				c.mark(span{rows.begin, row}, mark)
				c.presence[row] |= mark &^ counted
				rows.begin = row + 1
			}
		}
	}
	c.mark(rows, mark)
	return bad
}

// span is from one row up to another.
type span struct{ begin, end int32 }

// mark marks rows. Processes of one program mostly have the same series, so these are likely to be those that were marked
// before.
func (c *columns) mark(rows span, mark presence) {
	if rows.begin == rows.end || c.marked == rows && c.markedWith == mark {
		return
	}
	c.marked, c.markedWith = rows, mark
	marks := c.presence[rows.begin:rows.end]
	for i := range marks {
		marks[i] |= mark
	}
}
