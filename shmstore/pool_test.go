package shmstore

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The files that a view opens when it closes others are read into these others' memory, and hold what they would have
// held anywhere.
func TestViewReadsIntoWhatItClosed(t *testing.T) {
	d := newStore(t)
	v := d.View()
	defer v.Close()
	memory := func() map[*SeriesInfo]bool {
		all := map[*SeriesInfo]bool{}
		for _, r := range v.Readers() {
			all[&r.Series()[0]] = true
		}
		return all
	}
	const files = 8
	var old []*Writer
	var before map[*SeriesInfo]bool
	for round, n := range []int{100, 100, 100, 60, 200, 200} {
		var writers []*Writer
		for i := range files {
			w := newWriter(t, d, WriterOptions{Slot: i})
			id := addFamily(t, w, Family{Name: "c_total", Help: "Help.", Type: CounterType, Labels: []string{"l"}})
			for j := range n {
				addSeries(t, w, id, fmt.Sprint(round/2, "-", j)) // some have their label values in common
			}
			w.Delete(addSeries(t, w, id, fmt.Sprint("gone in ", round)))
			writers = append(writers, w)
		}
		for _, w := range old {
			require.NoError(t, w.Abandon())
		}
		old = writers
		require.NoError(t, v.Update())
		v.ReadNew()
		require.Len(t, v.Readers(), files)
		for _, r := range v.Readers() {
			require.NoError(t, r.Refresh())
			assert.Equal(t, openReader(t, d, r.Info().Name).Series(), r.Series())
			assert.Len(t, r.Series(), n+1)
		}
		now, again := memory(), 0
		for p := range now {
			if before[p] {
				again++
			}
		}
		if fits := round > 0 && round != 4; fits {
			// All but those of the one that was read last, whose label values others share.
			assert.Equal(t, files-1, again, "round %d", round)
		} else {
			assert.Zero(t, again, "round %d", round)
		}
		assert.Empty(t, v.pool.series)
		before = now
	}
}
