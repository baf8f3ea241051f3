package worker

import (
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/aggregate"
)

// stored returns what a fresh reader finds in the one file of the registry's store: hidden or not, by label values.
func stored(t testing.TB, r *registry) map[string]bool {
	reader, err := r.binding.dir.Open(r.binding.writer.Name())
	require.NoError(t, err)
	defer reader.Close()
	require.NoError(t, reader.Refresh())
	hidden := map[string]bool{}
	for _, s := range reader.Series() {
		if !s.Free {
			hidden[fmt.Sprint(s.Values)] = s.Hidden
		}
	}
	return hidden
}

func TestDeleteHides(t *testing.T) {
	r := inStore(t)
	c := r.newCounterVec(copts, []string{"a", "b"})
	h := r.newHistogramVec(hopts, []string{"a"})
	c.WithLabelValues("1", "1")
	c.WithLabelValues("1", "2")
	old := c.WithLabelValues("2", "1")
	h.WithLabelValues("h")
	require.True(t, c.Delete(prometheus.Labels{"b": "1", "a": "2"}))
	require.Equal(t, map[string]bool{"[1 1]": false, "[1 2]": false, "[2 1]": true, "[h]": false}, stored(t, r))
	require.Equal(t, 2, c.DeletePartialMatch(prometheus.Labels{"a": "1"}))
	h.Reset()
	require.Equal(t, map[string]bool{"[1 1]": true, "[1 2]": true, "[2 1]": true, "[h]": true}, stored(t, r))

	c.WithLabelValues("2", "1").Inc()
	old.Add(7)
	require.EqualValues(t, 1, testutil.ToFloat64(c.WithLabelValues("2", "1")))
	require.EqualValues(t, 7, testutil.ToFloat64(old))
	require.NoError(t, r.detach())
	require.EqualValues(t, 1, testutil.ToFloat64(c.WithLabelValues("2", "1")))
	old.Inc()
	require.EqualValues(t, 8, testutil.ToFloat64(old), "a deleted one stays where it was")
}

// TestCellsAreReused waits until the space of a deleted gauge, which nobody holds any more, has another one's value.
func TestCellsAreReused(t *testing.T) {
	r := inStore(t)
	v := r.newGaugeVec(gopts, []string{"a"}, Sum)
	kept := v.WithLabelValues("kept")
	v.Reset()
	seen := map[*uint64]bool{kept.cells.Load(): true}
	n := 0
	require.Eventually(t, func() bool {
		n++
		g := v.WithLabelValues(strconv.Itoa(n))
		first := g.cells.Load()
		require.NotSame(t, kept.cells.Load(), first, "somebody can still write there")
		require.Zero(t, *first, "new cells are unset")
		g.Set(1)
		v.Reset()
		runtime.GC()
		again := seen[first]
		seen[first] = true
		return again
	}, longWait, tick)
	runtime.KeepAlive(kept)
}

// TestOldHandleNeverWritesIntoNewSeries makes and deletes series while goroutines go on writing by handles of deleted
// ones. A new series starts unset and holds what its maker set.
func TestOldHandleNeverWritesIntoNewSeries(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 40
	}
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			v := p.make(t).newGaugeVec(gopts, []string{"a"}, Sum)
			var current atomic.Pointer[Gauge]
			var stop atomic.Bool
			var all sync.WaitGroup
			for range 2 {
				all.Go(func() {
					for !stop.Load() {
						if g := current.Load(); g != nil {
							g.Add(1)
						}
						// Held in this frame alone, across a deletion.
						v.WithLabelValues("shared").Add(1)
					}
				})
			}
			for i := range rounds {
				name := strconv.Itoa(i)
				g := v.WithLabelValues(name)
				require.Zero(t, g.value(), "series %d of %s", i, p.name)
				g.Set(-5)
				require.EqualValues(t, -5, g.value())
				require.True(t, v.DeleteLabelValues(name))
				v.DeleteLabelValues("shared")
				current.Store(g) // from now on others write to it
				if i%10 == 0 {
					runtime.GC()
				}
			}
			stop.Store(true)
			all.Wait()
		})
	}
}

// TestLookUpsWhileSeriesComeAndGo has readers of the table meet its writer.
func TestLookUpsWhileSeriesComeAndGo(t *testing.T) {
	v := inMemory(t).newCounterVec(copts, []string{"a"})
	stays := v.WithLabelValues("stays")
	var stop atomic.Bool
	var all sync.WaitGroup
	var n atomic.Int64
	for range 2 {
		all.Go(func() {
			for !stop.Load() {
				c := v.WithLabelValues("stays")
				if c != stays {
					t.Error("another counter for the same labels")
					return
				}
				c.Inc()
				n.Add(1)
			}
		})
	}
	for i := range 5000 {
		v.WithLabelValues(strconv.Itoa(i))
		if i >= 100 {
			require.True(t, v.DeleteLabelValues(strconv.Itoa(i-100)))
		}
	}
	stop.Store(true)
	all.Wait()
	require.EqualValues(t, n.Load(), testutil.ToFloat64(stays))
	require.Equal(t, 101, testutil.CollectAndCount(v))
	require.LessOrEqual(t, len(v.def.table.Load().slots), 512, "tombstones do not make the table grow")
}

func TestClientGolangsVec(t *testing.T) {
	r := inStore(t)
	v := r.newCounterVec(copts, []string{"a", "b"})
	view := v.Vec()
	view.WithLabelValues("1", "2").Add(3)
	v.WithLabelValues("1", "2").Inc()
	require.EqualValues(t, 4, testutil.ToFloat64(view.WithLabelValues("1", "2")))
	require.EqualValues(t, 4, testutil.ToFloat64(v.WithLabelValues("1", "2")))
	require.Same(t, v.WithLabelValues("1", "2"), view.WithLabelValues("1", "2"))

	curried := v.MustCurryWith(prometheus.Labels{"b": "2"}).Vec()
	require.Same(t, v.WithLabelValues("1", "2"), curried.WithLabelValues("1"))

	require.True(t, v.DeleteLabelValues("1", "2"))
	view.WithLabelValues("1", "2").Inc()
	require.EqualValues(t, 1, testutil.ToFloat64(v.WithLabelValues("1", "2")), "the view forgot it, too")

	require.True(t, view.DeleteLabelValues("1", "2"))
	require.EqualValues(t, 1, testutil.ToFloat64(view.WithLabelValues("1", "2")), "which removes it from the view alone")

	g := r.newGaugeVec(gopts, []string{"a"}, Max)
	g.Vec().WithLabelValues("x").Set(5)
	require.EqualValues(t, 5, testutil.ToFloat64(g.WithLabelValues("x")))
}

// A counter that is deleted and made again goes on with its old value and created time in the store, until the garbage
// collector and a fold have taken the old one. In process memory it starts at zero.
func TestDeletedCounterIsMadeAgain(t *testing.T) {
	shown := func(r *registry) *dto.Counter {
		all, err := gatherer{r}.Gather()
		require.NoError(t, err)
		for _, mf := range all {
			if mf.GetName() == "made_total" && len(mf.Metric) > 0 {
				return mf.Metric[0].Counter
			}
		}
		return nil
	}
	again := func(r *registry) (first, second *dto.Counter, v *CounterVec) {
		v = r.newCounterVec(prometheus.CounterOpts{Name: "made_total"}, []string{"a"})
		v.WithLabelValues("1").Add(3)
		first = shown(r)
		require.True(t, v.DeleteLabelValues("1"))
		require.Nil(t, shown(r), "every process has deleted it")
		v.WithLabelValues("1").Inc()
		return first, shown(r), v
	}
	first, second, _ := again(inMemory(t))
	require.EqualValues(t, 3, first.GetValue())
	require.EqualValues(t, 1, second.GetValue())
	require.True(t, second.CreatedTimestamp.AsTime().After(first.CreatedTimestamp.AsTime()))

	r := inStore(t)
	first, second, v := again(r)
	require.EqualValues(t, 4, second.GetValue(), "it goes on")
	require.Equal(t, first.CreatedTimestamp.AsTime(), second.CreatedTimestamp.AsTime())

	folding, err := aggregate.Open(r.binding.dir.Path(), aggregate.Options{})
	require.NoError(t, err)
	defer folding.Close()
	require.Eventually(t, func() bool {
		v.Reset()
		require.Nil(t, shown(r))
		runtime.GC()
		_, err := folding.Fold(contextOf(longWait))
		require.NoError(t, err)
		v.WithLabelValues("1").Inc()
		return shown(r).GetValue() == 1
	}, longWait, tick, "it starts at zero when the old ones are gone")
	require.True(t, shown(r).CreatedTimestamp.AsTime().After(first.CreatedTimestamp.AsTime()))
}
