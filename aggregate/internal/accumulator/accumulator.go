// Package accumulator adds up the values of one series, before any rounding, so that it does not matter when and by whom
// they were added. An archive holds an accumulator as words; this package is the only one that writes or reads them.
package accumulator

import (
	"fmt"

	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/nativehist"
)

// Accumulator is the merged value of one series of dead processes. It is a *Counter, *Histogram, *Native, *Gauge or
// *SlotGauges, and not safe for concurrent use.
//
// The words of an archive are described at each type's AppendWords. In them a sum is the number of words that follow, and
// these words: none for zero, two when two float64s hold it, else those of exactsum. Counts and slots are two's complement,
// values are the bits of a float64.
type Accumulator interface {
	// AddCells adds the cells of a series of a dead process. def is the process's own definition, which says how the cells lie. It returns false, and adds nothing, if no process can have written one of the cells.
	AddCells(def *shmstore.Family, from *origin.Origin, cells []uint64) bool
	// AppendWords appends what an archive holds of the accumulator.
	AppendWords(w []uint64) []uint64

	// read makes an empty accumulator what AppendWords wrote. thisBoot says whether the archive was written since the
	// kernel started; times of an earlier boot are older than any of this one.
	read(r *wordReader, thisBoot bool)
}

// New returns the accumulator of a series that nobody has written to.
func New(def *shmstore.Family) Accumulator {
	switch {
	case def.Type == shmstore.CounterType:
		return &Counter{}
	case def.Native != nil:
		return &Native{Finite: Histogram{Counts: make([]uint64, len(def.Bounds))}, Buckets: &nativehist.Counts{}}
	case def.Type == shmstore.HistogramType:
		return &Histogram{Counts: make([]uint64, len(def.Bounds)+1)}
	case def.Type == shmstore.SummaryType:
		return &Histogram{Counts: make([]uint64, 1)}
	case def.Mode == shmstore.All:
		return &SlotGauges{}
	default:
		return &Gauge{Mode: def.Mode}
	}
}

// FromWords is the inverse of AppendWords. The error wraps shmstore.ErrCorrupt.
func FromWords(def *shmstore.Family, w []uint64, thisBoot bool) (Accumulator, error) {
	a := New(def)
	r := &wordReader{w: w}
	a.read(r, thisBoot)
	if r.bad || len(r.w) > 0 {
		return nil, fmt.Errorf("%w: %d words of a %s %s", shmstore.ErrCorrupt, len(w), def.Mode, def.Type)
	}
	return a, nil
}
