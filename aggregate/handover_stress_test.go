package aggregate

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// handovers is how many a stress test makes: the variable ONESCRAPE_TEST_HANDOVERS, or so many that it takes a moment.
func handovers(t *testing.T) int {
	t.Helper()
	if text := os.Getenv("ONESCRAPE_TEST_HANDOVERS"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		return n
	}
	if testing.Short() {
		return 10_000
	}
	return 50_000
}

// busyStore is a store that is folded and scraped all the time. Scrapes have to have the series 0 to made-1 of c_total,
// and none may fall from one scrape to the next.
type busyStore struct {
	t      *testing.T
	made   atomic.Int64
	gone   atomic.Int64 // series below are being deleted
	stop   chan struct{}
	done   chan string
	folds  atomic.Int64
	passes atomic.Int64
}

func startBusyStore(t *testing.T, dir string) *busyStore {
	b := &busyStore{t: t, stop: make(chan struct{}), done: make(chan string, 2)}
	folding, scraper := openStore(t, dir, Options{}), openStore(t, dir, Options{})
	go b.loop(func() string {
		b.folds.Add(1)
		if _, err := folding.Fold(t.Context()); err != nil {
			return err.Error()
		}
		return ""
	})
	last := map[string]float64{}
	go b.loop(func() string {
		b.passes.Add(1)
		made := b.made.Load()
		families, err := scraper.gather([]string{"c_total"})
		if err != nil {
			return err.Error()
		}
		gone := b.gone.Load()
		now := map[string]float64{}
		for _, mf := range families {
			for _, m := range mf.Metric {
				now[m.Label[0].GetValue()] = m.Counter.GetValue()
			}
		}
		for i := gone; i < made; i++ {
			l := fmt.Sprint(i)
			if v, ok := now[l]; !ok || v < last[l] {
				return fmt.Sprintf("series %s is %v (there: %v) after %v", l, v, ok, last[l])
			}
		}
		last = now
		return ""
	})
	return b
}

func (b *busyStore) loop(do func() string) {
	for {
		select {
		case <-b.stop:
			b.done <- ""
			return
		default:
		}
		if wrong := do(); wrong != "" {
			b.done <- wrong
			return
		}
	}
}

func (b *busyStore) finish() {
	close(b.stop)
	for range 2 {
		assert.Empty(b.t, <-b.done)
	}
	b.t.Log(b.folds.Load(), "folds,", b.passes.Load(), "scrapes")
}

// values returns c_total by label.
func values(t *testing.T, s *Store) map[string]float64 {
	families, err := s.gather([]string{"c_total"})
	require.NoError(t, err)
	all := map[string]float64{}
	for _, mf := range families {
		for _, m := range mf.Metric {
			all[m.Label[0].GetValue()] = m.Counter.GetValue()
		}
	}
	return all
}

// Series move between two processes all the time, while others fold and scrape: no count is lost, and no scrape lacks one.
func TestHandoversUnderFoldsAndScrapesLoseNothing(t *testing.T) {
	dir := newDir(t)
	counter := counterFamily("c_total", "l")
	processes := [2]*local{startLocal(t, dir, 0), startLocal(t, dir, 1)}
	check := openStore(t, dir, Options{})
	b := startBusyStore(t, dir)
	r := rand.New(rand.NewPCG(3, 4))
	const batch = 500
	total, n, lost := handovers(t), 0, 0
	for n < total {
		want, first := map[string]float64{}, b.made.Load()
		holders := map[string]int{}
		for i := first; i < first+batch; i++ {
			l := fmt.Sprint(i)
			add := action{Do: "add", Family: counter, Values: []string{l}, V: 5}
			from := r.IntN(2)
			processes[from].do(add)
			want[l] = 5
			b.made.Store(i + 1)
			for range 1 + r.IntN(3) {
				processes[1-from].do(add)
				processes[from].do(action{Do: "delete", Family: counter, Values: []string{l}}, action{Do: "release"})
				want[l] += 5
				from = 1 - from
				n++
			}
			holders[l] = from
		}
		have := values(t, check)
		for l, v := range want {
			if have[l] != v {
				lost++
				t.Errorf("series %s is %v, not %v", l, have[l], v)
			}
		}
		b.gone.Store(first + batch)
		for l, p := range holders {
			processes[p].do(action{Do: "delete", Family: counter, Values: []string{l}})
		}
		for _, p := range processes {
			p.do(action{Do: "release"})
		}
		if lost > 0 {
			break
		}
	}
	b.finish()
	t.Log(n, "handovers,", lost, "series lost counts")
}

// The same from a process to the next, which starts then, and the one before is killed.
func TestHandoversToProcessesThatStartLoseNothing(t *testing.T) {
	long(t)
	dir := newDir(t)
	counter := counterFamily("c_total", "l")
	check := openStore(t, dir, Options{})
	b := startBusyStore(t, dir)
	const series = 20
	rounds := max(handovers(t)/1000, 10)
	var old *child
	for round := range rounds {
		next := startChild(t, dir, round%3)
		if old == nil {
			next.do(ready)
		}
		for i := range series {
			values := []string{fmt.Sprint(i)}
			next.do(action{Do: "add", Family: counter, Values: values, V: 1})
			if old != nil {
				old.do(action{Do: "delete", Family: counter, Values: values}, action{Do: "release"})
			}
			b.made.Store(max(b.made.Load(), int64(i+1)))
		}
		if old != nil {
			old.kill()
		}
		old = next
		for l, v := range values(t, check) {
			require.Equal(t, float64(round+1), v, "series %s", l)
		}
	}
	b.finish()
	t.Log(rounds, "processes")
}
