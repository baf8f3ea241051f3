package integration

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a store costs does not grow with the number of workers that ever lived on it.
func TestBounded(t *testing.T) {
	const atOnce = 4
	lives := 10000
	if race {
		lives = 500 // there is one goroutine in each, and nothing to detect
	}
	program := filepath.Join(t.TempDir(), "brief")
	require.NoError(t, build(program, "github.com/onescrape/onescrape/integration/brief"))
	s := startDemo(t, 2)
	live := func(n int) {
		t.Helper()
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
					cmd.Env = append(cmd.Environ(), "ONESCRAPE_DIR="+s.store, "GOMAXPROCS=1", "GOGC=off")
					out, err := cmd.CombinedOutput()
					assert.NoError(t, err, "%s", out)
				}
			})
		}
		all.Wait()
	}
	folded := func(n int) {
		t.Helper()
		eventually(t, "the fold", func() bool { return len(entries(t, s.store)) <= 2+3 })
		f := mustScrape(t, s.metrics)
		for i, label := range []string{"0", "1", "2"} {
			require.Equal(t, float64(n)*float64(i+1), f.sum("brief_total", "n", label))
		}
	}
	m := startMonitor(s.metrics, monitorOptions{})
	live(10)
	folded(10)
	before := scrapeTime(t, s.metrics)
	live(lives - 10)
	folded(lives)
	after := scrapeTime(t, s.metrics)
	m.stop(t)
	t.Logf("a scrape took %v after 10 workers and %v after %d: %.2f x", before, after, lives, float64(after)/float64(before))
}

func entries(t *testing.T, store string) []string {
	t.Helper()
	list, err := os.ReadDir(store)
	require.NoError(t, err)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// scrapeTime is the shortest of many scrapes.
func scrapeTime(t *testing.T, url string) time.Duration {
	t.Helper()
	best := time.Duration(math.MaxInt64)
	for range 200 {
		start := time.Now()
		_, body, err := get(url)
		best = min(best, time.Since(start))
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(string(body), "\n"))
	}
	return best
}
