package aggregate

import (
	"context"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// The folding process of the tests, which kills itself at a step.
const folderVariable = "AGGREGATE_TEST_FOLDER"

func init() {
	dir := os.Getenv(folderVariable)
	if dir == "" {
		return
	}
	s, err := Open(dir, Options{})
	if err != nil {
		panic(err)
	}
	at := rand.IntN(30)
	s.foldStep = func(string) {
		if at--; at < 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	if _, err := s.Fold(context.Background()); err != nil {
		panic(err)
	}
	os.Exit(0)
}

func mustFold(t testing.TB, s *Store) int {
	t.Helper()
	n, err := s.Fold(context.Background())
	require.NoError(t, err)
	return n
}

// leave makes the file of a process that did these things and died.
func leave(t testing.TB, dir string, slot int, actions ...action) {
	t.Helper()
	c := startChild(t, dir, slot)
	c.do(actions...)
	c.killSeen(dir)
}

func TestFoldChangesNoSample(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	both := openStore(t, dir, Options{})
	bounds := []float64{-1, 0, 2.5}
	alive := startLocal(t, dir, 7)
	for slot, p := range []doer{startChild(t, dir, 0), startChild(t, dir, 0), startChild(t, dir, 2), startChild(t, dir, -1), alive} {
		v := float64(slot) + 0.1
		for mode := shmstore.All; mode <= shmstore.LiveMostRecent; mode++ {
			p.do(action{Do: "set", Family: gaugeFamily("g_"+mode.String(), mode, "l"), Values: []string{"x"}, V: 2 - v})
			p.do(action{Do: "make", Family: gaugeFamily("g_"+mode.String(), mode, "l"), Values: []string{"unset"}})
		}
		p.do(
			action{Do: "add", Family: counterFamily("c_total", "l"), Values: []string{""}, V: v},
			action{Do: "add", Family: counterFamily("c_total", "l"), Values: []string{"é\n"}, V: 1 << 62},
			action{Do: "add", Family: counterFamily("tiny_total"), V: math.SmallestNonzeroFloat64},
			action{Do: "add", Family: counterFamily("tiny_total"), V: 1e300},
			action{Do: "observe", Family: histogramFamily("h", bounds), V: v - 3},
			action{Do: "observe", Family: histogramFamily("h", bounds), V: math.NaN()},
			action{Do: "observe", Family: histogramFamily("inf", bounds), V: math.Inf(-1)},
			action{Do: "observe", Family: summaryFamily("s"), V: -v},
			action{Do: "set", Family: linesFamily("s"), Values: []string{"0.5"}, V: v},
			action{Do: "exemplar", Family: counterFamily("c_total", "l"), Values: []string{""}, V: v, At: uint64(100 - slot), Trace: "t"},
			action{Do: "exemplar", Family: histogramFamily("h", bounds), V: v - 3, At: uint64(slot%2 + 1), Trace: "é"},
			action{Do: "exemplar", Family: histogramFamily("h", bounds), V: 9, At: 7, Trace: strings.Repeat("x", 100+slot)},
			action{Do: "observe", Family: windowedFamily("w", 1, slot+2), V: v},
		)
		for i := range 30 {
			p.do(
				action{Do: "observe", Family: nativeFamily("n", 3-slot, 0.5), V: v * math.Ldexp(1-v, i)},
				action{Do: "observe", Family: nativeFamily("nt", 3, []float64{0.5, 0.7, 0, 1}[slot%4]), V: v * float64(i-20)},
				action{Do: "observe", Family: bothFamily("both", 0, bounds), V: v - float64(i)},
			)
		}
		p.do(
			action{Do: "observe", Family: nativeFamily("n", 3-slot, 0.5), V: math.NaN()},
			action{Do: "observe", Family: bothFamily("both", 0, bounds), V: math.Inf(1)},
			action{Do: "observe", Family: histogramFamily("mixed", bounds), V: v},
			action{Do: "observe", Family: bothFamily("mixed", slot, bounds[:slot%4]), V: -v},
			action{Do: "make", Family: nativeFamily("empty", 2*slot-4, 0)},
		)
		if slot%2 == 0 {
			p.do(ready)
		}
		if c, ok := p.(*child); ok {
			c.killSeen(dir)
		}
	}
	before, createdBefore := users(t, both), created(gatherAll(t, both))
	assert.Equal(t, 4, mustFold(t, s))
	assert.Equal(t, before, users(t, s))
	assert.Equal(t, before, users(t, both))
	assert.Equal(t, before, users(t, openStore(t, dir, Options{})))
	assert.Equal(t, createdBefore, created(gatherAll(t, both)))
	assert.Zero(t, mustFold(t, s))
	leave(t, dir, 2, action{Do: "add", Family: counterFamily("c_total", "l"), Values: []string{""}, V: 1})
	before = users(t, both)
	assert.Equal(t, 1, mustFold(t, s))
	assert.Equal(t, before, users(t, openStore(t, dir, Options{})))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.LessOrEqual(t, len(entries), 1+3)
}

// A rollback finds what was counted under its own definitions, because nothing was converted when it was folded.
func TestFoldKeepsDefinitionsApart(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	old, new := histogramFamily("h", []float64{1, 2, 4}), histogramFamily("h", []float64{3})
	leave(t, dir, 0, ready, action{Do: "observe", Family: old, V: 1.5}, action{Do: "add", Family: counterFamily("x"), V: 3})
	mustFold(t, s)
	second := startChild(t, dir, 0)
	second.do(action{Do: "observe", Family: new, V: 2}, action{Do: "set", Family: gaugeFamily("x", shmstore.Max), V: 9}, ready)
	assert.Equal(t, "h_bucket{le=\"3\"} 2\nh_bucket{le=\"+Inf\"} 2\nh_sum 3.5\nh_count 2\nx 9\n", text(t, s))
	third := startChild(t, dir, 0)
	third.do(action{Do: "observe", Family: old, V: 3.5}, action{Do: "add", Family: counterFamily("x"), V: 1}, ready)
	want := "h_bucket{le=\"1\"} 0\nh_bucket{le=\"2\"} 1\nh_bucket{le=\"4\"} 3\nh_bucket{le=\"+Inf\"} 3\nh_sum 7\nh_count 3\nx 4\n"
	assert.Equal(t, want, text(t, s))
	second.killSeen(dir)
	mustFold(t, s)
	assert.Equal(t, want, text(t, s))
	third.killSeen(dir)
	mustFold(t, s)
	assert.Equal(t, want, text(t, s))
}

func TestFloatSumsNeverFallWhileTheyAreFolded(t *testing.T) {
	long(t)
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	r := rand.New(rand.NewPCG(1, 2))
	family, summary := counterFamily("c_total"), summaryFamily("s")
	exact, exactSummary := new(big.Float).SetPrec(4000), new(big.Float).SetPrec(4000)
	last := 0.0
	var dying []*child
	look := func() {
		all := gatherAll(t, s)
		v := all["c_total"].Metric[0].Counter.GetValue()
		require.GreaterOrEqual(t, v, last)
		last = v
	}
	for i := range 60 {
		c := startChild(t, dir, i%4)
		v := math.Ldexp(r.Float64(), r.IntN(120)-60)
		w := r.NormFloat64() * math.Ldexp(1, r.IntN(100)-50)
		c.do(action{Do: "add", Family: family, V: v}, action{Do: "observe", Family: summary, V: w})
		exact.Add(exact, big.NewFloat(v))
		exactSummary.Add(exactSummary, big.NewFloat(w))
		look()
		dying = append(dying, c)
		for len(dying) > r.IntN(8) {
			k := r.IntN(len(dying))
			dying[k].killSeen(dir)
			dying = append(dying[:k], dying[k+1:]...)
			look()
			if r.IntN(2) == 0 {
				mustFold(t, s)
				look()
			}
		}
	}
	want, _ := exact.Float64()
	assert.Equal(t, want, gatherAll(t, s)["c_total"].Metric[0].Counter.GetValue())
	want, _ = exactSummary.Float64()
	assert.Equal(t, want, gatherAll(t, s)["s"].Metric[0].Summary.GetSampleSum())
}

// Processes die all the time and are folded by two others, one of which is killed again and again at any step.
func TestScrapesBesideFoldersThatAreKilled(t *testing.T) {
	long(t)
	dir := newDir(t)
	family := histogramFamily("h", []float64{1, 2})
	leave(t, dir, 0, action{Do: "observe", Family: family, V: 1})
	ctx, stop := context.WithCancel(context.Background())
	var low, high atomic.Uint64
	low.Store(1)
	high.Store(1)
	failures := make(chan string, 2)
	for range 2 {
		s := openStore(t, dir, Options{})
		go func() {
			seen := uint64(0)
			for ctx.Err() == nil {
				least := low.Load()
				families, err := s.Gather()
				most := high.Load()
				if err != nil || len(families) == 0 || families[0].GetName() != "h" {
					failures <- "there is nothing to scrape"
					return
				}
				n := families[0].Metric[0].Histogram.GetSampleCount()
				if n < least || n < seen || n > most {
					failures <- "the count is not what was observed"
					return
				}
				seen = n
			}
			failures <- ""
		}()
	}
	folding := openStore(t, dir, Options{})
	killed, ended := 0, 0
	for i := range 20 {
		for range 3 {
			high.Add(1)
			leave(t, dir, 0, action{Do: "observe", Family: family, V: float64(i % 3)})
			low.Add(1)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), folderVariable+"="+dir)
		require.NoError(t, cmd.Start())
		if i%4 == 0 {
			mustFold(t, folding)
		}
		if cmd.Wait() == nil {
			ended++
		} else {
			killed++
		}
	}
	stop()
	assert.Empty(t, <-failures)
	assert.Empty(t, <-failures)
	assert.Positive(t, killed)
	assert.Equal(t, uint64(61), gatherAll(t, folding)["h"].Metric[0].Histogram.GetSampleCount())
	t.Logf("folders killed %d, ended %d", killed, ended)
}

// What every living process has deleted leaves as a whole, and its next life starts at zero.
func TestFoldForgetsWhatAllHaveDeleted(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	family := counterFamily("c_total", "l")
	add := func(v float64) action { return action{Do: "add", Family: family, Values: []string{"x"}, V: v} }
	remove := action{Do: "delete", Family: family, Values: []string{"x"}}
	leave(t, dir, 0, add(100))
	mustFold(t, s)
	a, b := startLocal(t, dir, 0), startChild(t, dir, 1)
	a.do(add(10))
	b.do(add(1))
	a.do(remove, action{Do: "release"})
	assert.Equal(t, "c_total{l=\"x\"} 111\n", text(t, s), "b shows it")
	mustFold(t, s)
	assert.Equal(t, "c_total{l=\"x\"} 111\n", text(t, s), "the archive has taken a's part")
	a.do(add(1000))
	assert.Equal(t, "c_total{l=\"x\"} 1111\n", text(t, s), "made again meanwhile, it goes on")
	a.do(remove, action{Do: "release"})
	b.do(remove)
	assert.Empty(t, text(t, s))
	mustFold(t, s)
	assert.Empty(t, text(t, s))
	b.killSeen(dir)
	assert.Empty(t, text(t, s))
	mustFold(t, s)
	assert.Empty(t, text(t, s))
	a.do(add(5))
	assert.Equal(t, "c_total{l=\"x\"} 5\n", text(t, s))
}

func TestRetentionCountsStepsAndNoJumps(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	family := counterFamily("c_total", "l")
	for _, l := range []string{"old", "used"} {
		leave(t, dir, 0, action{Do: "add", Family: family, Values: []string{l}, V: 1})
	}
	mustFold(t, s)
	alive := startLocal(t, dir, 0)
	alive.do(action{Do: "make", Family: family, Values: []string{"used"}})
	d, err := shmstore.OpenDir(dir, shmstore.DirOptions{})
	require.NoError(t, err)
	defer d.Close()
	v := d.View()
	defer v.Close()
	require.NoError(t, v.Update())
	archive, live := v.Archive(), v.Readers()
	for _, r := range live {
		require.NoError(t, r.Refresh())
	}
	const retention = 24 * time.Hour

	again, err := foldInto(archive, nil, readersOf(live), retention)
	require.NoError(t, err)
	assert.Nil(t, again, "it is not time yet")

	jumped := *archive
	jumped.AgedAt = shmstore.Monotonic() - uint64(1000*time.Hour)
	next, err := foldInto(&jumped, nil, readersOf(live), retention)
	require.NoError(t, err)
	require.Equal(t, 2, next.Families[0].Len(), "a clock that jumped ages by one step")

	steps := 0
	for next = archive; next.Families[0].Len() == 2; steps++ {
		next.AgedAt = shmstore.Monotonic() - uint64(30*time.Minute)
		next, err = foldInto(next, nil, readersOf(live), retention)
		require.NoError(t, err)
		require.Less(t, steps, 100)
	}
	assert.Equal(t, 48, steps)
	assert.Equal(t, []string{"used"}, next.Families[0].All()[0].Values)
	assert.Zero(t, next.Families[0].All()[0].Age)

	next.AgedAt = 0
	for range 200 {
		again, err := foldInto(next, nil, readersOf(live), -1)
		require.NoError(t, err)
		require.Nil(t, again, "for ever")
	}

	empty := &shmstore.Archive{AgedAt: 1}
	before := shmstore.Monotonic()
	next, err = foldInto(empty, readersOf(live), nil, retention)
	require.NoError(t, err)
	require.Len(t, next.Families, 1)
	assert.GreaterOrEqual(t, next.AgedAt, before, "what comes into an empty archive begins to age then")
}

func TestStoreThatMayNotFold(t *testing.T) {
	dir := newDir(t)
	leave(t, dir, 0, action{Do: "add", Family: counterFamily("c_total"), V: 1})
	s := openStore(t, dir, Options{ReadOnly: true})
	_, err := s.Fold(context.Background())
	require.ErrorContains(t, err, "read-only")
	require.ErrorContains(t, s.Run(context.Background()), "read-only")
	require.NoError(t, s.Close())
	entries, err := filepath.Glob(filepath.Join(dir, "*.shm"))
	require.NoError(t, err)
	assert.Len(t, entries, 1)
	closed, err := Open(dir, Options{})
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	_, err = closed.Fold(context.Background())
	require.Error(t, err)
	require.Error(t, closed.Run(context.Background()))
}

func TestRunFoldsUntilItIsStopped(t *testing.T) {
	dir := newDir(t)
	leave(t, dir, 0, action{Do: "add", Family: counterFamily("c_total"), V: 1})
	s := openStore(t, dir, Options{})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	require.Eventually(t, func() bool {
		names, err := filepath.Glob(filepath.Join(dir, "*.shm"))
		return err == nil && len(names) == 0
	}, 10*time.Second, time.Millisecond)
	stop()
	require.NoError(t, <-done)
	assert.Equal(t, "c_total 1\n", text(t, s))
}
