package integration

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore/foreign"
	"github.com/onescrape/onescrape/shmstore/foreign/python"
)

// BenchmarkForeign times a scrape of client_python's directories beside the library's own, in alternating rounds, and
// reports the ratio of the minima: of the first scrape, which parses everything, of those that follow, and, where there
// are many files, of those after compaction. Run it with -benchtime 1x.
func BenchmarkForeign(b *testing.B) {
	for name, args := range map[string][]string{
		"8x10000": {"counters", "8", "10000"},
		"6800":    {"many", "1700"},
	} {
		b.Run(name, func(b *testing.B) {
			dir, err := os.MkdirTemp("/dev/shm", "onescrape-bench-")
			require.NoError(b, err)
			defer os.RemoveAll(dir)
			script := filepath.Join("testdata", "peers", "speed.py")
			cmd := exec.Command(pythonInterpreter(b), append([]string{script, args[0], dir}, args[1:]...)...)
			cmd.Stderr = os.Stderr
			tell, err := cmd.StdinPipe()
			require.NoError(b, err)
			told, err := cmd.StdoutPipe()
			require.NoError(b, err)
			require.NoError(b, cmd.Start())
			defer cmd.Wait()
			defer tell.Close()
			lines := bufio.NewScanner(told)
			require.True(b, lines.Scan())
			library := func() float64 {
				fmt.Fprintln(tell)
				require.True(b, lines.Scan())
				seconds, err := strconv.ParseFloat(lines.Text(), 64)
				require.NoError(b, err)
				return seconds
			}
			d := pythonBench(b, dir, foreign.Options{})
			s, err := aggregate.Open("", aggregate.Options{Foreign: []*foreign.Dir{d}})
			require.NoError(b, err)
			defer s.Close()
			var text bytes.Buffer
			ours := func() float64 {
				text.Reset()
				start := time.Now()
				require.NoError(b, s.WriteText(&text))
				return time.Since(start).Seconds()
			}
			first := ours()
			best, theirs := math.Inf(1), math.Inf(1)
			for range b.N {
				for range 3 {
					theirs = min(theirs, library())
					for range 10 {
						best = min(best, ours())
					}
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(theirs*1e3, "library-ms")
			b.ReportMetric(first/theirs, "first-x")
			b.ReportMetric(best*1e3, "ms")
			b.ReportMetric(best/theirs, "x")
			if args[0] == "many" {
				s.Close() // what it has mapped is in use
				compacted(b, dir, theirs)
			}
		})
	}
}

func pythonBench(b *testing.B, dir string, o foreign.Options) *foreign.Dir {
	b.Helper()
	d, err := python.Open(dir, o)
	require.NoError(b, err)
	return d
}

// compacted reports what a scrape takes when the directory is compacted, and how many files there are then.
func compacted(b *testing.B, dir string, theirs float64) {
	b.Helper()
	d := pythonBench(b, dir, foreign.Options{Compact: true})
	s, err := aggregate.Open("", aggregate.Options{Foreign: []*foreign.Dir{d}})
	require.NoError(b, err)
	defer s.Close()
	start := time.Now()
	files := func() int {
		all, err := filepath.Glob(filepath.Join(dir, "*.db"))
		require.NoError(b, err)
		aside, err := filepath.Glob(filepath.Join(dir, ".onescrape", "aside-*"))
		require.NoError(b, err)
		return len(all) + len(aside)
	}
	// The script is a process too: the last that it was still has its four files open.
	for files() > 4 {
		_, err := s.Fold(context.Background())
		require.NoError(b, err)
	}
	b.ReportMetric(time.Since(start).Seconds(), "compaction-s")
	best := math.Inf(1)
	for range 20 {
		start := time.Now()
		require.NoError(b, s.WriteText(&bytes.Buffer{}))
		best = min(best, time.Since(start).Seconds())
	}
	b.ReportMetric(best*1e3, "compacted-ms")
	b.ReportMetric(best/theirs, "compacted-x")
	b.ReportMetric(float64(files()), "files-left")
}
