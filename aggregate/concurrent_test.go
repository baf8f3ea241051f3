package aggregate

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// watcher finds what goes back between two scrapes of one scraper, and counts that are not their +Inf bucket.
type watcher struct {
	seen  map[string]float64
	wrong []string
}

func (w *watcher) look(families []*dto.MetricFamily) {
	if w.seen == nil {
		w.seen = map[string]float64{}
	}
	now := map[string]float64{}
	for _, mf := range families {
		for _, m := range mf.Metric {
			key := mf.GetName() + fmt.Sprint(m.Label)
			switch {
			case m.Counter != nil:
				now[key] = m.Counter.GetValue()
			case m.Summary != nil:
				now[key+" count"] = float64(m.Summary.GetSampleCount())
				now[key+" sum"] = m.Summary.GetSampleSum()
			case m.Histogram != nil:
				last := uint64(0)
				for _, b := range m.Histogram.Bucket {
					if b.GetCumulativeCount() < last {
						w.wrong = append(w.wrong, fmt.Sprint(key, " has buckets that fall: ", m.Histogram))
					}
					last = b.GetCumulativeCount()
					now[fmt.Sprint(key, b.GetUpperBound())] = float64(last)
				}
				if m.Histogram.GetSampleCount() < last {
					w.wrong = append(w.wrong, fmt.Sprint(key, " counts less than its buckets: ", m.Histogram))
				}
				now[key+" count"] = float64(m.Histogram.GetSampleCount())
				now[key+" sum"] = m.Histogram.GetSampleSum()
			}
		}
	}
	for key, before := range w.seen {
		if after, ok := now[key]; !ok || after < before {
			w.wrong = append(w.wrong, fmt.Sprint(key, " went from ", before, " to ", after, " (there: ", ok, ")"))
		}
	}
	w.seen = now
}

// Processes write, appear, say READY and are killed while several scrapers look: nothing ever goes back, and in the end
// the sums are what the processes wrote.
func TestNothingGoesBack(t *testing.T) {
	dir := newDir(t)
	counter, plain := counterFamily("c_total", "l"), counterFamily("p_total")
	histogram, summary := histogramFamily("h", []float64{.25, .5, .75}, "l"), summaryFamily("s", "l")
	stop := make(chan struct{})
	var group sync.WaitGroup
	watchers := make([]watcher, 3)
	shared := openStore(t, dir, Options{})
	var scrapes atomic.Int64
	for i := range watchers {
		s := shared
		if i == 0 {
			s = openStore(t, dir, Options{})
		}
		group.Go(func() {
			for {
				families, err := s.Gather()
				if err != nil {
					watchers[i].wrong = append(watchers[i].wrong, err.Error())
				}
				watchers[i].look(families)
				scrapes.Add(1)
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	rounds, perRound := 4, 120
	var whole, observed atomic.Int64
	r := rand.New(rand.NewPCG(11, 12))
	for round := range rounds {
		var writers sync.WaitGroup
		children := []*child{startChild(t, dir, 0), startChild(t, dir, 1), startChild(t, dir, 2)}
		for n, c := range children {
			seed := r.Uint64()
			writers.Go(func() {
				r := rand.New(rand.NewPCG(seed, 1))
				for i := range perRound {
					l := []string{fmt.Sprint(r.IntN(1 + 5*round))}
					v := r.Float64()
					c.do(action{Do: "add", Family: plain, V: 1}, action{Do: "add", Family: counter, Values: l, V: v},
						action{Do: "observe", Family: histogram, Values: l, V: v},
						action{Do: "observe", Family: summary, Values: l, V: v})
					whole.Add(1)
					observed.Add(1)
					if i == 30*n {
						c.do(ready)
					}
				}
			})
		}
		writers.Wait()
		for _, c := range children {
			c.kill()
		}
	}
	close(stop)
	group.Wait()
	for _, w := range watchers {
		assert.Empty(t, w.wrong)
	}
	t.Log(scrapes.Load(), "scrapes")
	assert.Equal(t, fmt.Sprintf("p_total %d\n", whole.Load()), text(t, shared, "p_total"))
	var count uint64
	for _, m := range gatherAll(t, shared)["h"].Metric {
		count += m.Histogram.GetSampleCount()
	}
	assert.Equal(t, uint64(observed.Load()), count)
}

// A process that increments as fast as it can is killed; what is read of it never falls, whether it lives or not.
func TestDeathKeepsCounts(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	def := counterFamily("c_total")
	for range 5 {
		c := startChild(t, dir, 0)
		c.do(action{Do: "spin", Family: def})
		var w watcher
		gather := func() {
			families, err := s.Gather()
			require.NoError(t, err)
			w.look(families)
		}
		for range 50 {
			gather()
		}
		c.kill()
		require.Eventually(t, func() bool {
			gather()
			return strings.Contains(text(t, s, "onescrape_store_files"), "{state=\"live\"} 0")
		}, 10*time.Second, time.Millisecond)
		last := text(t, s, "c_total")
		gather()
		require.Equal(t, last, text(t, s, "c_total"))
		require.Empty(t, w.wrong)
		require.Equal(t, last, text(t, openStore(t, dir, Options{}), "c_total"))
	}
}

// Gauges come and go faster than a scrape can follow: no value is ever shown under another series' labels, and what does
// not change is always there.
func TestChurn(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	stop, done := make(chan struct{}), make(chan error, 1)
	p := startLocal(t, dir, 0)
	churning, steady := gaugeFamily("g", shmstore.Sum, "n"), counterFamily("c_total", "l")
	for i := range 50 {
		p.do(action{Do: "add", Family: steady, Values: []string{fmt.Sprint(i)}, V: float64(i)})
	}
	go func() {
		defer close(done)
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			values := []string{fmt.Sprint(i)}
			var made []action
			if i%10 == 0 && i < 400 {
				// Families come up too, some of which collide.
				name := fmt.Sprintf("f%d", i/20)
				made = []action{
					{Do: "add", Family: counterFamily(name + "_count"), V: 1},
					{Do: "observe", Family: histogramFamily(name, nil), V: 1},
					{Do: "set", Family: gaugeFamily(name+"_all", shmstore.All), V: 1},
				}
			}
			for _, a := range append(made, []action{
				{Do: "set", Family: churning, Values: values, V: float64(i)},
				{Do: "delete", Family: churning, Values: values},
				{Do: "release"},
			}...) {
				if err := p.apply(a); err != nil {
					done <- err
					return
				}
			}
		}
	}()
	want := text(t, s, "c_total")
	require.Equal(t, 50, strings.Count(want, "\n"))
	rounds := 500
	if testing.Short() {
		rounds = 100
	}
	shown := 0
	for range rounds {
		all := gatherAll(t, s)
		if g := all["g"]; g != nil {
			require.Less(t, len(g.Metric), 3)
			for _, m := range g.Metric {
				// It is made first and set then.
				if v := m.Gauge.GetValue(); v != 0 {
					require.Equal(t, m.Label[0].GetValue(), fmt.Sprint(int64(v)))
					shown++
				}
			}
		}
		require.Len(t, all["c_total"].Metric, 50)
	}
	close(stop)
	require.NoError(t, <-done)
	require.Equal(t, want, text(t, s, "c_total"))
	require.Empty(t, errorCounts(t, s))
	t.Log(shown, "values of series that come and go")
}

// While a pass runs, all that wait share the next one.
func TestWaitingScrapesShareAPass(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	p := startLocal(t, dir, 0)
	def := counterFamily("c_total")
	p.do(action{Do: "add", Family: def, V: 1})
	text(t, s)
	before := s.begun.Load()
	s.mu.Lock() // as a pass does, which has read the counter already
	p.do(action{Do: "add", Family: def, V: 1})
	var waiting sync.WaitGroup
	results := make([]string, 20)
	for i := range results {
		waiting.Go(func() { results[i] = text(t, s, "c_total") })
	}
	stacks := make([]byte, 1<<20)
	require.Eventually(t, func() bool {
		n := runtime.Stack(stacks, true)
		return strings.Count(string(stacks[:n]), "(*RWMutex).Lock(") == len(results)
	}, 10*time.Second, time.Millisecond)
	s.mu.Unlock()
	waiting.Wait()
	assert.Equal(t, slices.Repeat([]string{"c_total 2\n"}, len(results)), results)
	assert.Equal(t, before+1, s.begun.Load())
}
