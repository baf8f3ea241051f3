package main

import (
	"context"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore"
)

// What a store costs does not grow with the number of workers that ever lived on it. Meanwhile it is folded and scraped all
// the time, and no sum falls.
func TestTenThousandLives(t *testing.T) {
	lives := 10000
	if race || testing.Short() {
		lives = 500 // each of them has one goroutine
	}
	program := filepath.Join(t.TempDir(), "shortlived")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)

	path := newStore(t)
	store, err := aggregate.Open(path, aggregate.Options{})
	require.NoError(t, err)
	defer store.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var background sync.WaitGroup
	background.Go(func() { assert.NoError(t, store.Run(ctx)) })
	background.Go(func() { neverFalls(ctx, t, path) })
	defer background.Wait()
	defer cancel()

	live(t, program, path, lives)
	folded(t, store, lives)

	// Beside it a store on which ten have lived.
	young := newStore(t)
	few, err := aggregate.Open(young, aggregate.Options{})
	require.NoError(t, err)
	defer few.Close()
	live(t, program, young, 10)
	for {
		n, err := few.Fold(t.Context())
		require.NoError(t, err)
		if n == 0 {
			break
		}
	}
	folded(t, few, 10)
	assert.Equal(t, bytes(t, few), bytes(t, store), "an archive keeps no more of many than of few")
	assert.InDelta(t, allocations(t, few), allocations(t, store), 10, "and a scrape reads no more")
	before, after := shortest(t, few, store)
	t.Logf("a scrape takes %v after 10 lives and %v after %d: %.2f x", before, after, lives,
		float64(after)/float64(before))
}

// newStore makes a store in memory, where there is some: a directory on a disk grows with the files that it had.
func newStore(t *testing.T) string {
	t.Helper()
	base, err := os.MkdirTemp("/dev/shm", "onescrape-test-")
	if err != nil {
		base = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	path := filepath.Join(base, "store")
	dir, err := shmstore.OpenDir(path, shmstore.DirOptions{Create: true})
	require.NoError(t, err)
	require.NoError(t, dir.Close())
	return path
}

// live starts so many processes, a few at a time, and waits for their ends.
func live(t *testing.T, program, path string, n int) {
	t.Helper()
	const atOnce = 4
	work := make(chan struct{}, n)
	for range n {
		work <- struct{}{}
	}
	close(work)
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for range work {
				cmd := exec.Command(program)
				cmd.Env = []string{"ONESCRAPE_DIR=" + path, "GOMAXPROCS=1", "GOGC=off"}
				cmd.Stderr = os.Stderr
				assert.NoError(t, cmd.Run())
			}
		})
	}
	all.Wait()
}

// folded waits until the directory holds no files of processes, and then compares what they have counted.
func folded(t *testing.T, store *aggregate.Store, lives int) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		list, err := os.ReadDir(store.Dir())
		require.NoError(t, err)
		if len(list) <= 3 {
			break
		}
		require.True(t, time.Now().Before(end), "%d files are left", len(list))
	}
	require.Equal(t, map[string]float64{"0": float64(lives), "1": float64(2 * lives), "2": float64(3 * lives)}, sums(t, store))
}

// sums are the values of shortlived_total, by its label.
func sums(t *testing.T, store *aggregate.Store) map[string]float64 {
	t.Helper()
	families, err := store.Gather()
	require.NoError(t, err)
	found := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "shortlived_total" {
			for _, m := range f.GetMetric() {
				found[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return found
}

// neverFalls scrapes as a second process would, with a Store of its own that does not fold, until ctx ends.
func neverFalls(ctx context.Context, t *testing.T, path string) {
	reader, err := aggregate.Open(path, aggregate.Options{ReadOnly: true})
	if !assert.NoError(t, err) {
		return
	}
	defer reader.Close()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for last := map[string]float64{}; ctx.Err() == nil; <-tick.C {
		now := sums(t, reader)
		for n := range 3 {
			label := strconv.Itoa(n)
			if now[label] < last[label] {
				assert.Fail(t, "a sum fell", "n=%d: %v after %v", n, now[label], last[label])
			}
		}
		last = now
	}
}

// bytes is how much the files of a store take in the file system.
func bytes(t *testing.T, store *aggregate.Store) (n int64) {
	t.Helper()
	list, err := os.ReadDir(store.Dir())
	require.NoError(t, err)
	for _, entry := range list {
		info, err := entry.Info()
		require.NoError(t, err)
		n += info.Size()
	}
	return n
}

// allocations is how many objects a scrape makes.
func allocations(t *testing.T, store *aggregate.Store) float64 {
	t.Helper()
	return testing.AllocsPerRun(100, func() { require.NoError(t, store.WriteText(io.Discard)) })
}

// shortest is the time of the shortest of many scrapes of each store, which take turns.
func shortest(t *testing.T, one, other *aggregate.Store) (time.Duration, time.Duration) {
	t.Helper()
	best := [2]time.Duration{math.MaxInt64, math.MaxInt64}
	for range 1000 {
		for i, store := range [...]*aggregate.Store{one, other} {
			start := time.Now()
			require.NoError(t, store.WriteText(io.Discard))
			best[i] = min(best[i], time.Since(start))
		}
	}
	return best[0], best[1]
}
