package shmstore

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The values of a series follow from its labels, so that a reader can tell one that is not its own.

// own is a number of 40 bits.
func own(values []string) uint64 {
	h := fnv.New64a()
	for _, v := range values {
		h.Write([]byte(v))
		h.Write([]byte{0})
	}
	return h.Sum64() >> 24
}

// ownCells reports whether the cells are those that churn gives the series, or some of them still as they were made.
func ownCells(f *Family, values []string, cells []uint64) error {
	want := own(values)
	if f.timed() {
		v, at, set, ok := LoadTimed(cells)
		if ok && set && v != float64(want)+float64(at) {
			return fmt.Errorf("%s%q is %v at %d, not %v", f.Name, values, v, at, float64(want)+float64(at))
		}
		return nil
	}
	for i, c := range cells {
		if c != 0 && c != want+uint64(i) {
			return fmt.Errorf("%s%q has %d in cell %d, not %d", f.Name, values, c, i, want+uint64(i))
		}
	}
	return nil
}

// churn adds, sets, deletes and releases series as fast as it can.
func churn(w *Writer, seed uint64, stop *atomic.Bool) error {
	random := rand.New(rand.NewPCG(seed, seed))
	var alive []*Series
	for n := 0; !stop.Load(); n++ {
		f := everyType[random.IntN(len(everyType)-1)]
		if n%64 == 0 {
			f.Name = fmt.Sprint(f.Name, "_", n/64%100) // now and then a new family
		} else if f.Mode == 0 && random.IntN(100) > 0 {
			f = everyType[1+random.IntN(2)] // what is never reused would only fill the disk
		}
		id, err := w.AddFamily(f)
		if err != nil {
			return err
		}
		values := make([]string, len(f.Labels))
		for i := range values {
			values[i] = fmt.Sprintf("%d-%d-%*d", seed, n, random.IntN(60), i)
		}
		s, err := w.AddSeries(id, values)
		if err != nil {
			return err
		}
		if f.timed() {
			for at := range uint64(1 + random.IntN(20)) {
				StoreTimed(s.Cells, float64(own(values))+float64(at+1), at+1)
			}
		} else {
			for i := range s.Cells {
				atomic.StoreUint64(&s.Cells[i], own(values)+uint64(i))
			}
		}
		if alive = append(alive, s); len(alive) > 50 {
			i := random.IntN(len(alive))
			w.Delete(alive[i])
			w.Released(alive[i])
			alive[i] = alive[len(alive)-1]
			alive = alive[:len(alive)-1]
		}
	}
	return nil
}

// readAll refreshes and reads once, in the one way or the other, and tells how.
func readAll(r *Reader) (how string, err error) {
	var found error
	for range 4 {
		if err := r.Refresh(); err != nil {
			return "", err
		}
		err := r.Read(func(words []uint64) {
			found = nil
			for i := range r.Series() {
				s := &r.Series()[i]
				if s.Free {
					continue
				}
				cells := make([]uint64, s.Words)
				f := &r.Families()[s.Family]
				if f.timed() {
					v, at, set, ok := LoadTimed(words[s.Cell : s.Cell+s.Words])
					if !ok || !set {
						continue
					}
					StoreTimed(cells, v, at)
				} else {
					for j := range cells {
						cells[j] = atomic.LoadUint64(&words[int(s.Cell)+j])
					}
				}
				found = errors.Join(found, ownCells(f, s.Values, cells))
			}
		})
		if err == nil {
			return "read", found
		}
		if !errors.Is(err, ErrLayoutChanged) {
			return "", err
		}
	}
	found = nil
	err = r.ReadStable(func(i int, cells []uint64) {
		s := &r.Series()[i]
		found = errors.Join(found, ownCells(&r.Families()[s.Family], s.Values, cells))
	})
	return "stable", errors.Join(err, found)
}

func TestReadersOfAWriterThatChurnsNeverSeeTheValueOfAnotherSeries(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	var stop atomic.Bool
	var wg sync.WaitGroup
	for seed := range uint64(2) {
		wg.Go(func() {
			assert.NoError(t, churn(w, seed, &stop))
		})
	}
	var ways sync.Map
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			r := openReader(t, d, w.Name())
			for n := range 1000 {
				if n%50 == 49 {
					r = openReader(t, d, w.Name())
				}
				how, err := readAll(r)
				if !assert.NoError(t, err) {
					return
				}
				ways.Store(how, true)
			}
		})
	}
	readers.Wait()
	stop.Store(true)
	wg.Wait()
	r := openReader(t, d, w.Name())
	how, err := readAll(r)
	require.NoError(t, err)
	assert.Equal(t, "read", how, "a writer that rests is read at once")
	alive := 0
	for _, s := range r.Series() {
		if !s.Free && !s.Hidden {
			alive++
		}
	}
	assert.LessOrEqual(t, alive, 2*51)
	_, found := ways.Load("stable")
	t.Log("the slow way was needed:", found)
}

func TestTimedGaugeIsNeverTorn(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	s := addSeries(t, w, addFamily(t, w, everyType[2]), "a")
	r := openReader(t, d, w.Name())
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for at := uint64(1); !stop.Load(); at++ {
			StoreTimed(s.Cells, float64(at), at)
		}
	})
	last, n := uint64(0), 0
	for n < 20_000 {
		require.NoError(t, r.Read(func(words []uint64) {
			v, at, set, ok := LoadTimed(words[r.series[0].Cell:][:TimedWords])
			if !ok || !set {
				return
			}
			require.Equal(t, float64(at), v)
			require.GreaterOrEqual(t, at, last)
			last = at
			n++
		}))
	}
	stop.Store(true)
	wg.Wait()
}

func TestWritersMethodsMayBeCalledAtOnce(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for n := range 200 {
				id, err := w.AddFamily(Family{Name: fmt.Sprint("f", n%20), Type: CounterType, Labels: []string{"a"}})
				assert.NoError(t, err)
				s, err := w.AddSeries(id, []string{fmt.Sprint(g, "-", n)})
				if assert.NoError(t, err) {
					atomic.AddUint64(&s.Cells[0], 1)
				}
				w.SetOverflow(n)
				w.SetReady()
			}
		})
	}
	wg.Wait()
	r := openReader(t, d, w.Name())
	assert.Len(t, r.Families(), 20)
	assert.Len(t, r.Series(), 1600)
	for _, cells := range cellsOf(t, r) {
		assert.Equal(t, uint64(1), cells[0])
	}
}
