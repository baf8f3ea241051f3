package shmstore

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore/internal/osfile"
)

// The layout rule: neighbours in order of registration share no line of the cache. Two goroutines add to
//
//	neighbours: two counters that were registered one after the other
//	packed: two words that lie one after the other
//
// and alone is one goroutine, which is what neighbours should cost.
func BenchmarkTwoGoroutinesAdd(b *testing.B) {
	d := newStore(b)
	w := newWriter(b, d, WriterOptions{})
	f := addFamily(b, w, Family{Name: "x", Type: CounterType, Labels: []string{"a"}})
	first, second := addSeries(b, w, f, "1"), addSeries(b, w, f, "2")
	packed := w.memory.Words[first.cells/pageSize*pageSize/wordSize:][:2]
	run := func(cells ...*uint64) func(*testing.B) {
		return func(b *testing.B) {
			var wg sync.WaitGroup
			for _, c := range cells {
				wg.Go(func() {
					for range b.N {
						atomic.AddUint64(c, 1)
					}
				})
			}
			wg.Wait()
		}
	}
	b.Run("alone", run(&first.Cells[0]))
	b.Run("neighbours", run(&first.Cells[0], &second.Cells[0]))
	b.Run("packed", run(&packed[0], &packed[1]))
}

// BenchmarkScan reads the cells of 32 processes with 10,000 counters each.
func BenchmarkScan(b *testing.B) {
	d := newStore(b)
	var readers []*Reader
	var places [][]int32
	for range 32 {
		w := newWriter(b, d, WriterOptions{})
		f := addFamily(b, w, Family{Name: "x", Type: CounterType, Labels: []string{"a"}})
		for n := range 10_000 {
			addSeries(b, w, f, fmt.Sprint(n)).Cells[0] = uint64(n)
		}
		r := openReader(b, d, w.Name())
		readers, places = append(readers, r), append(places, nil)
		for _, s := range r.Series() {
			places[len(places)-1] = append(places[len(places)-1], int32(s.Cell))
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		sum := uint64(0)
		for i, r := range readers {
			err := r.Read(func(words []uint64) {
				for _, at := range places[i] {
					cells := words[at:][:CounterWords]
					sum += atomic.LoadUint64(&cells[CounterInteger])
					if f := atomic.LoadUint64(&cells[CounterFloat]); f != 0 {
						b.Fatal(f)
					}
				}
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		if sum != 32*9999*5000 {
			b.Fatal(sum)
		}
	}
}

// BenchmarkRefresh parses a file of 10,000 series, and the same again when nothing is new.
func BenchmarkRefresh(b *testing.B) {
	d := newStore(b)
	w := newWriter(b, d, WriterOptions{})
	f := addFamily(b, w, Family{Name: "x", Type: CounterType, Labels: []string{"code", "method", "route"}})
	for n := range 10_000 {
		addSeries(b, w, f, "200", "GET", fmt.Sprint("/customers/", n))
	}
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r, err := d.Open(w.Name())
			require.NoError(b, err)
			require.NoError(b, r.Refresh())
			r.Close()
		}
	})
	b.Run("nothing new", func(b *testing.B) {
		r := openReader(b, d, w.Name())
		b.ReportAllocs()
		for b.Loop() {
			if err := r.Refresh(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one deleted", func(b *testing.B) {
		r := openReader(b, d, w.Name())
		g := addFamily(b, w, Family{Name: "g", Type: GaugeType, Mode: Sum})
		b.ReportAllocs()
		for b.Loop() {
			s, err := w.AddSeries(g, nil)
			if err != nil {
				b.Fatal(err)
			}
			w.Delete(s)
			w.Released(s)
			if err := r.Refresh(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkAddSeries(b *testing.B) {
	values := []string{"200", "GET", "/customers/12345"}
	b.Run("new", func(b *testing.B) {
		d := newStore(b)
		w := newWriter(b, d, WriterOptions{Limit: maxLimit})
		f := addFamily(b, w, Family{Name: "x", Type: CounterType, Labels: []string{"code", "method", "route"}})
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.AddSeries(f, values); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("reused", func(b *testing.B) {
		d := newStore(b)
		w := newWriter(b, d, WriterOptions{})
		f := addFamily(b, w, Family{Name: "x", Type: GaugeType, Mode: Sum, Labels: []string{"code", "method", "route"}})
		b.ReportAllocs()
		for b.Loop() {
			s, err := w.AddSeries(f, values)
			if err != nil {
				b.Fatal(err)
			}
			w.Delete(s)
			w.Released(s)
		}
	})
}

func BenchmarkMonotonic(b *testing.B) {
	for b.Loop() {
		osfile.Monotonic()
	}
}
