package aggregate

import (
	"slices"

	dto "github.com/prometheus/client_model/go"

	"github.com/onescrape/onescrape/shmstore/quantile"
)

// The quantiles of a summary are those of what the living processes observed of late: the sketches in their windows add up
// to one for each row. A dead process's window counts no more, folded or not. How long the window is and which quantiles
// are asked for is the rule's to say, and each process's resolution and slices are its own.

// windowed reports whether the contribution's windows count in this pass.
func (d *contribution) windowed() bool {
	return d.origin.Alive && d.family.rule.Window != nil && d.def.Window != nil
}

// addWindow adds what is counted in one window to a row: counts is what quantile.Window.AppendCounts appends.
func (d *contribution) addWindow(row int32, counts []uint64) {
	pairs := counts[1 : 1+2*counts[0]]
	if len(pairs) == 0 {
		return
	}
	sketch := d.family.sketch(row)
	resolution := quantile.NewResolution(d.def.Window.Resolution)
	for ; len(pairs) > 0; pairs = pairs[2:] {
		sketch.Add(resolution, quantile.BucketID(pairs[0]), pairs[1])
	}
}

// sketch returns that of a row.
func (c *columns) sketch(row int32) *quantile.Sketch {
	if n := int(row) + 1 - len(c.sketches); n > 0 {
		c.sketches = append(c.sketches, make([]*quantile.Sketch, n)...)
	}
	if c.sketches[row] == nil {
		c.sketches[row] = new(quantile.Sketch)
	}
	return c.sketches[row]
}

// beginSketches empties the sketches for another scrape.
func (c *columns) beginSketches() {
	for _, s := range c.sketches {
		if s != nil {
			s.Reset()
		}
	}
}

// finishSketches makes the quantiles of all rows.
func (f *family) finishSketches() {
	f.computed = f.computed[:0]
	if f.rule.Window == nil {
		f.sketches = nil
		return
	}
	empty := new(quantile.Sketch)
	for n := range f.rows {
		s := empty
		if n < len(f.sketches) && f.sketches[n] != nil {
			s = f.sketches[n]
		}
		f.computed = s.AppendQuantiles(f.computed, f.rule.Window.Objectives)
	}
}

// outputQuantiles makes the quantiles of these rows part of their summaries.
func (f *family) outputQuantiles(rows []int32, summaries []dto.Summary) {
	if f.rule.Window == nil {
		return
	}
	qs := f.rule.Window.Objectives
	quantiles, values := make([]dto.Quantile, len(rows)*len(qs)), make([]float64, 0, len(rows)*len(qs))
	pointers := make([]*dto.Quantile, len(quantiles))
	for i := range quantiles {
		pointers[i] = &quantiles[i]
	}
	for i, n := range rows {
		values = append(values, f.computed[int(n)*len(qs):][:len(qs)]...)
		for j := range qs {
			q := &quantiles[i*len(qs)+j]
			q.Quantile, q.Value = &qs[j], &values[i*len(qs)+j]
		}
		summaries[i].Quantile = slices.Clip(pointers[i*len(qs):][:len(qs)])
	}
}
