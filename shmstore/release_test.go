package shmstore

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A reader that looks at the series one by one while they are released sees some that were released later than others
// which it does not see yet. Releases has to bound what it knows without a gap.
func TestReaderKnowsAllReleasesUpToTheNumberThatItGives(t *testing.T) {
	d := storeDir(t)
	for range 5 {
		w, err := d.Create(WriterOptions{Slot: -1})
		require.NoError(t, err)
		f, err := w.AddFamily(Family{Name: "jobs_total", Type: CounterType, Labels: []string{"kind"}})
		require.NoError(t, err)
		var all []*Series
		for i := range 3000 {
			s, err := w.AddSeries(f, []string{fmt.Sprint(i)})
			require.NoError(t, err)
			all = append(all, s)
			w.Delete(s)
		}
		r, err := d.Open(w.Name())
		require.NoError(t, err)
		assert.Zero(t, r.Releases())
		released := make(chan struct{})
		go func() {
			for _, s := range all {
				w.Released(s)
			}
			close(released)
		}()
		for last := false; !last; {
			select {
			case <-released:
				last = true
			default:
			}
			require.NoError(t, r.Refresh())
			known := uint64(0)
			for _, s := range r.Series() {
				if s.Release > 0 && s.Release <= r.Releases() {
					known++
				}
			}
			require.Equal(t, r.Releases(), known)
		}
		assert.Equal(t, uint64(len(all)), r.Releases())
		require.NoError(t, r.Close())
	}
}
