package worker

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/aggregate"
)

// TestRemovalKeepsTheFileSmall makes and deletes label sets, 1,000 alive at a time, and folds as a master does: the file
// grows while the first ones come and go, and then no more, and neither does the archive.
func TestRemovalKeepsTheFileSmall(t *testing.T) {
	const alive, batch = 1000, 10_000
	total := 1_000_000
	if testing.Short() || raceDetector {
		total = 100_000
	}
	for _, test := range []struct {
		name    string
		resting int // deleted series that keep their place for a second
		// vec returns what makes a series of a value, and what deletes it.
		vec func(*registry) (make func(string), remove func(string) bool)
	}{
		{"counter with exemplar", 0, func(r *registry) (func(string), func(string) bool) {
			v := r.newCounterVec(copts, []string{"user"})
			return func(user string) {
				v.WithLabelValues(user).AddWithExemplar(1, prometheus.Labels{"trace": user})
			}, func(user string) bool { return v.DeleteLabelValues(user) }
		}},
		{"gauge", 1024, func(r *registry) (func(string), func(string) bool) {
			v := r.newGaugeVec(gopts, []string{"user"}, Sum)
			return func(user string) { v.WithLabelValues(user).Set(1) },
				func(user string) bool { return v.DeleteLabelValues(user) }
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Handles are collected at the end of each batch alone, so that it does not matter when the collector runs.
			defer debug.SetGCPercent(debug.SetGCPercent(-1))
			r := inStore(t)
			add, remove := test.vec(r)
			store, err := aggregate.Open(r.binding.dir.Path(), aggregate.Options{})
			require.NoError(t, err)
			defer store.Close()
			reader, err := r.binding.dir.Open(r.binding.writer.Name())
			require.NoError(t, err)
			defer reader.Close()
			// held returns how many deleted series the collector has not found to be nobody's yet.
			held := func() (n int) {
				require.NoError(t, reader.Refresh())
				for _, s := range reader.Series() {
					if !s.Free && s.Hidden && s.Release == 0 {
						n++
					}
				}
				return n
			}
			size := func(name string) int64 {
				info, err := os.Stat(filepath.Join(r.binding.dir.Path(), name))
				if os.IsNotExist(err) {
					return 0
				}
				require.NoError(t, err)
				return info.Size()
			}
			var file, archive int64
			for n := range total {
				add(strconv.Itoa(n))
				if n >= alive {
					require.True(t, remove(strconv.Itoa(n-alive)))
				}
				if (n+1)%batch != 0 {
					continue
				}
				require.Eventually(t, func() bool { runtime.GC(); return held() <= test.resting }, longWait, tick)
				_, err := store.Fold(context.Background())
				require.NoError(t, err)
				if n+1 == 5*batch {
					file, archive = size(r.binding.writer.Name()), size("archive")
				}
			}
			t.Logf("after %d label sets the file has %d bytes and the archive %d", total, size(r.binding.writer.Name()), size("archive"))
			// A step of growth more may be due to when the writer looked at the archive.
			assert.LessOrEqual(t, size(r.binding.writer.Name()), file+file/4)
			assert.LessOrEqual(t, size("archive"), archive+archive/4)
			families, err := store.Gather()
			require.NoError(t, err)
			assert.Len(t, families[0].Metric, alive)
		})
	}
}

// TestOldHandleNeverCountsInNewSeries is TestOldHandleNeverWritesIntoNewSeries for what is used again after a fold.
func TestOldHandleNeverCountsInNewSeries(t *testing.T) {
	r := inStore(t)
	v := r.newCounterVec(copts, []string{"a"})
	store, err := aggregate.Open(r.binding.dir.Path(), aggregate.Options{})
	require.NoError(t, err)
	defer store.Close()
	var current atomic.Pointer[Counter]
	var stop atomic.Bool
	var all sync.WaitGroup
	defer all.Wait()
	defer stop.Store(true)
	for range 2 {
		all.Go(func() {
			for !stop.Load() {
				if c := current.Load(); c != nil {
					c.AddWithExemplar(1, prometheus.Labels{"of": "an old one"})
				}
			}
		})
	}
	seen := map[*uint64]bool{}
	reused := 0
	for i := 0; reused < 100; i++ {
		name := strconv.Itoa(i)
		c := v.WithLabelValues(name)
		m := written(t, c)
		require.Zero(t, m.Counter.GetValue(), "series %d", i)
		require.Nil(t, m.Counter.Exemplar)
		c.AddWithExemplar(5, prometheus.Labels{"of": name})
		m = written(t, c)
		require.EqualValues(t, 5, m.Counter.GetValue())
		require.Equal(t, "5 map[of:"+name+"]", exemplarLine(m.Counter.Exemplar))
		if seen[c.cells.Load()] {
			reused++
		}
		seen[c.cells.Load()] = true
		require.True(t, v.DeleteLabelValues(name))
		current.Store(c) // from now on others write to it
		if i%50 == 0 {
			runtime.GC()
			_, err := store.Fold(context.Background())
			require.NoError(t, err)
		}
	}
}
