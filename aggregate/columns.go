package aggregate

import (
	"github.com/onescrape/onescrape/aggregate/internal/accumulator"
	"github.com/onescrape/onescrape/aggregate/internal/exactsum"
	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/nativehist"
	"github.com/onescrape/onescrape/shmstore/quantile"
)

// columns are the merged values of a family, by row. Each pass makes them again. The type decides which columns are used.
type columns struct {
	presence   []presence
	marked     span // of presence, the last time
	markedWith presence
	counters   accumulator.CounterColumn
	gauges     []accumulator.Gauge
	sums       []exactsum.Sum
	natives    []nativehist.Counts // of a histogram with native buckets
	buckets    []uint64            // of a histogram len(rule.Bounds)+1 a row, of a summary one
	values     []float64

	exemplars [][]exemplarCell   // by row, then by bucket; shorter than rows or nil where there are none
	sketches  []*quantile.Sketch // by row, of a summary with quantiles; shorter than rows, and nil, where there are none
	computed  []float64          // of the sketches: len(rule.Window.Objectives) a row
}

// grow adds a row of a family with this definition.
func (c *columns) grow(rule *shmstore.Family) {
	c.presence = append(c.presence, 0)
	switch rule.Type {
	case shmstore.CounterType:
		c.counters.Grow()
		c.values = append(c.values, 0)
	case shmstore.HistogramType:
		c.sums = append(c.sums, exactsum.Sum{})
		c.buckets = append(c.buckets, make([]uint64, len(rule.Bounds)+1)...)
		if rule.Native != nil {
			c.natives = append(c.natives, nativehist.Counts{})
		}
	case shmstore.SummaryType:
		c.sums = append(c.sums, exactsum.Sum{})
		c.buckets = append(c.buckets, 0)
	default:
		c.gauges = append(c.gauges, accumulator.Gauge{Mode: rule.Mode.Base()})
		c.values = append(c.values, 0)
	}
}

// begin empties the rows for another scrape.
func (c *columns) begin() {
	clear(c.presence)
	c.marked = span{}
	clear(c.buckets)
	c.beginExemplars()
	c.beginSketches()
	c.counters.Reset()
	for i := range c.gauges {
		c.gauges[i].Reset()
	}
	for i := range c.sums {
		c.sums[i].Reset()
	}
	for i := range c.natives {
		c.natives[i].Reset()
	}
}

// drop empties a row that no longer has a series. The sums are emptied by begin.
func (c *columns) drop(n int32) {
	if int(n) < len(c.sketches) {
		c.sketches[n] = nil
	}
	c.presence[n] = 0
	c.dropExemplars(n)
}

// visible reports whether a row is exposed. A row is not if every value of it was refused: it would fall to 0.
func (c *columns) visible(n int32) bool {
	p := c.presence[n]
	return p&counted != 0 && p.visible()
}
