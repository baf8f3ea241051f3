package aggregate

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore/foreign"
	"github.com/onescrape/onescrape/shmstore/foreign/python"
	"github.com/onescrape/onescrape/shmstore/foreign/ruby"
)

// The compacting process of the tests, which kills itself at a step.
const (
	compactorVariable = "AGGREGATE_TEST_COMPACTOR"
	compactorStep     = "AGGREGATE_TEST_COMPACTOR_STEP"
	compactorSettle   = "AGGREGATE_TEST_COMPACTOR_SETTLE"
)

func init() {
	dir := os.Getenv(compactorVariable)
	if dir == "" {
		return
	}
	at, _ := strconv.Atoi(os.Getenv(compactorStep))
	settle, err := time.ParseDuration(os.Getenv(compactorSettle))
	if err != nil {
		panic(err)
	}
	if err := compactUntil(dir, at, settle); err != nil {
		panic(err)
	}
	os.Exit(0)
}

func compactUntil(dir string, at int, settle time.Duration) error {
	d, err := python.Open(dir, foreign.Options{Compact: true})
	if err != nil {
		return err
	}
	s, err := Open("", Options{Foreign: []*foreign.Dir{d}})
	if err != nil {
		return err
	}
	s.settle = settle
	s.foldStep = func(string) {
		if at--; at < 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	_, err = s.Fold(context.Background())
	return err
}

// shortSettle is for tests in which nobody opens a file meanwhile.
const shortSettle = time.Nanosecond

// nobody is the first of pids that no process ever has.
const nobody = 1 << 22

func counterOf(pid int) string { return fmt.Sprintf("counter_%d.db", pid) }

func openCompacting(t testing.TB, dir string, settle time.Duration) *Store {
	t.Helper()
	s := openForeign(t, Options{}, pythonDir(t, dir, foreign.Options{Compact: true}))
	s.settle = settle
	return s
}

// visibleFiles returns the files of the directory that a library sees.
func visibleFiles(t testing.TB, dir string) (names []string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*.db"))
	require.NoError(t, err)
	for _, path := range all {
		names = append(names, filepath.Base(path))
	}
	return names
}

// compactAll compacts until there is nothing left to take.
func compactAll(t testing.TB, s *Store) (taken int) {
	t.Helper()
	for idle := 0; idle < 2; {
		n := mustFold(t, s)
		taken += n
		if idle++; n > 0 {
			idle = 0
		}
	}
	return taken
}

// Compaction changes no sample but live gauges, and leaves the files of the living.
func TestCompactChangesNoSample(t *testing.T) {
	dir := foreignDir(t)
	for i := range 300 {
		pid := nobody + i
		c, err := openDict(dir, counterOf(pid), 1+i%2)
		require.NoError(t, err)
		c.set(pyKey("c", "c_total", "l", "x"), 1e15+0.1)
		c.set(pyKey("d", "d_total"), float64(i))
		c.die()
	}
	kinds := map[string]func(*dict, float64){
		"summary": func(d *dict, v float64) {
			d.set(pyKey("s", "s_count"), v)
			d.set(pyKey("s", "s_sum"), v/3)
		},
		"histogram": func(d *dict, v float64) {
			d.set(pyKey("h", "h_sum", "l", "x"), v/7)
			d.set(pyKey("h", "h_bucket", "l", "x", "le", "1.0"), v)
			d.set(pyKey("h", "h_bucket", "l", "x", "le", "+Inf"), 1)
		},
	}
	for _, mode := range strings.Fields("all sum min max mostrecent liveall livesum livemin livemax livemostrecent") {
		kinds["gauge_"+mode] = func(d *dict, v float64) { d.set(pyKey("g_"+mode, "g_"+mode), v, 1e9+v) }
	}
	alive := os.Getpid()
	for kind, set := range kinds {
		for i, pid := range []int{nobody, nobody + 1, alive, nobody + 2} {
			d, err := openDict(dir, fmt.Sprintf("%s_%d.db", kind, pid), 2)
			require.NoError(t, err)
			set(d, float64(5-i))
			if pid == alive {
				t.Cleanup(d.die)
			} else {
				d.die()
			}
		}
	}
	plain := openForeign(t, Options{}, pythonDir(t, dir, foreign.Options{}))
	before := text(t, plain)
	require.Contains(t, before, "g_livesum 14\n")
	require.Contains(t, before, "g_mostrecent 5\n")

	s := openCompacting(t, dir, shortSettle)
	require.Equal(t, before, text(t, s), "the first look changes nothing")
	mustFold(t, s)
	require.Equal(t, withLiveOf(before, alive, "3"), text(t, plain), "from here on it keeps nobody from a lease")
	assert.Equal(t, 300+3*len(kinds), compactAll(t, s))
	assert.Len(t, visibleFiles(t, dir), len(kinds), "those of the living")
	want := withLiveOf(before, alive, "3")
	for range 2 {
		assert.Equal(t, want, text(t, s))
		assert.Equal(t, want, text(t, plain), "one that was opened before sees the archive too")
		assert.Equal(t, want, text(t, openForeign(t, Options{}, pythonDir(t, dir, foreign.Options{}))))
	}
	assert.Empty(t, errorCounts(t, s))
	assert.Equal(t, 0, mustFold(t, s))
}

// withLiveOf returns the samples with live gauges of one process alone.
func withLiveOf(text string, pid int, value string) string {
	var lines []string
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "g_liveall"):
			if strings.Contains(line, strconv.Itoa(pid)) {
				lines = append(lines, line)
			}
		case strings.HasPrefix(line, "g_live"):
			lines = append(lines, strings.Fields(line)[0]+" "+value+"\n")
		default:
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// Who has a file open or mapped is alive, whatever its pid says.
func TestCompactNeverTakesWhatIsInUse(t *testing.T) {
	uses := map[string]func(*dict){
		"open":   func(d *dict) { unix.Munmap(d.memory); d.memory = nil },
		"mapped": func(d *dict) { d.file.Close() },
	}
	for name, use := range uses {
		t.Run(name, func(t *testing.T) {
			dir := foreignDir(t)
			c, err := openDict(dir, counterOf(nobody), 1)
			require.NoError(t, err)
			c.set(pyKey("c", "c_total"), 1)
			g, err := openDict(dir, fmt.Sprintf("gauge_livesum_%d.db", nobody), 1)
			require.NoError(t, err)
			g.set(pyKey("g", "g"), 1)
			use(c)
			use(g)
			s := openCompacting(t, dir, shortSettle)
			for range 3 {
				assert.Equal(t, 0, mustFold(t, s))
				assert.Equal(t, "c_total 1\ng 1\n", text(t, s))
			}
			assert.Len(t, visibleFiles(t, dir), 2)
			for _, d := range []*dict{c, g} {
				if d.memory != nil {
					unix.Munmap(d.memory)
					d.memory = nil
				}
				d.file.Close()
			}
			assert.Equal(t, "c_total 1\n", text(t, s), "a live gauge leaves with its process")
			assert.Equal(t, 2, compactAll(t, s))
			assert.Equal(t, "c_total 1\n", text(t, s))
		})
	}
}

// A file of a dead process is not kept mapped, so its inode may become another file's, in which nothing is where it
// was.
func TestCompactAndTheInodeIsUsedAgain(t *testing.T) {
	dir := foreignDir(t)
	s := openCompacting(t, dir, shortSettle)
	content := func(keys ...string) []byte {
		d := dict{memory: make([]byte, 4096), doubles: 1, at: map[string]int{}}
		d.setUsed(8)
		for _, key := range keys {
			d.set(key, float64(len(key)))
		}
		return d.memory
	}
	place(t, dir, counterOf(nobody), content(pyKey("c", "c_total")))
	require.Equal(t, 1, compactAll(t, s), "from here on there is an archive")
	long, short := pyKey("d", "d_total", "l", "x"), pyKey("d", "d_total", "l", "")
	want := func(n int) string {
		return fmt.Sprintf("d_total{l=\"\"} %d\nd_total{l=\"x\"} %d\n", len(short)*n, len(long)*n)
	}
	// Writing a file anew keeps its inode.
	place(t, dir, counterOf(nobody), content(long, short))
	assert.Equal(t, want(1), text(t, s, "d_total"))
	place(t, dir, counterOf(nobody), content(short, long))
	assert.Equal(t, want(1), text(t, s, "d_total"))
	place(t, dir, counterOf(nobody), content(short))
	assert.Equal(t, fmt.Sprintf("d_total{l=\"\"} %d\n", len(short)), text(t, s, "d_total"))
	assert.Empty(t, errorCounts(t, s))
}

// What a process that seems to have died has counted stays known also when the directory cannot be listed after its
// file was let go.
func TestCompactLetsGoAndKnows(t *testing.T) {
	dir := foreignDir(t)
	s := openCompacting(t, dir, shortSettle)
	startDict(t, dir, counterOf(nobody)).set(pyKey("c", "c_total"), 1)
	name := counterOf(os.Getpid())
	d := startDict(t, dir, name)
	d.set(pyKey("c", "c_total"), 4)
	require.Equal(t, "c_total 5\n", text(t, s), "without an archive every file is mapped")
	require.NoError(t, os.Chtimes(filepath.Join(dir, name), time.Unix(1, 0), time.Unix(1, 0)))
	require.Equal(t, 0, mustFold(t, s), "both are in use")
	withoutDescriptors(t, func() { assert.Equal(t, "c_total 5\n", text(t, s)) })
	assert.Equal(t, "c_total 5\n", text(t, s))
}

// A compactor that was killed, or found no space, before the hidden directory was a store keeps nobody from reading.
func TestCompactHalfMadeStore(t *testing.T) {
	dir := foreignDir(t)
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".onescrape"), 0o700))
	d := startDict(t, dir, counterOf(nobody))
	d.set(pyKey("c", "c_total"), 3)
	reader := openForeign(t, Options{}, pythonDir(t, dir, foreign.Options{}))
	require.Equal(t, "c_total 3\n", text(t, reader))
	assert.Empty(t, errorCounts(t, reader))
	d.die()
	s := openCompacting(t, dir, shortSettle)
	mustFold(t, s)
	require.Equal(t, "c_total 3\n", text(t, reader), "from here on it keeps nobody from a lease")
	assert.Equal(t, 1, compactAll(t, s), "the next one goes on")
	assert.Equal(t, "c_total 3\n", text(t, reader))
}

// A file that does not fit the others, or whose name is as long as names can be, keeps no other from being taken.
func TestCompactLeavesWhatDoesNotFit(t *testing.T) {
	dir := foreignDir(t)
	place(t, dir, fmt.Sprintf("metric_c_total___%d.bin", nobody), rubyFile("", 5))
	for i := range 2 {
		var keys []string
		for bound := range 600 {
			keys = append(keys, fmt.Sprintf("le=%d", bound*2+i))
		}
		place(t, dir, fmt.Sprintf("metric_h___%d.bin", nobody+i), rubyFileOf(1, keys...))
	}
	ends := fmt.Sprintf("___%d.bin", nobody)
	long := strings.Repeat("x", 255-len("metric_")-len(ends))
	place(t, dir, "metric_"+long+ends, rubyFile("", 1))
	d, err := ruby.Open(dir, nil, foreign.Options{Compact: true})
	require.NoError(t, err)
	s := openForeign(t, Options{}, d)
	s.settle = shortSettle
	assert.Equal(t, 2, compactAll(t, s), "the counter, and the histogram that came first")
	assert.Equal(t, "c_total 5\n", text(t, s, "c_total"))
	assert.Contains(t, text(t, s, "h"), "h_count 600\n")
	assert.Contains(t, text(t, s, long), " 1\n")
	assert.Equal(t, map[string]int{"corrupt": 1}, errorCounts(t, s))
}

// A process whose pid was used before goes on with the file of that name. It may have found it just before the file was
// renamed, and have it open from then on.
func TestCompactAndThePidIsUsedAgain(t *testing.T) {
	dir := foreignDir(t)
	key := pyKey("c", "c_total")
	live := func(add float64) {
		d, err := openDict(dir, counterOf(nobody), 1)
		require.NoError(t, err)
		d.add(key, add)
		d.die()
	}
	s := openCompacting(t, dir, shortSettle)
	reader := openForeign(t, Options{}, pythonDir(t, dir, foreign.Options{}))
	holds := func(v int) {
		t.Helper()
		for _, s := range []*Store{s, reader} {
			assert.Equal(t, fmt.Sprintf("c_total %d\n", v), text(t, s))
		}
	}
	live(1)
	require.Equal(t, 0, mustFold(t, s), "set aside")
	assert.Empty(t, visibleFiles(t, dir))
	holds(1)
	live(2)
	holds(3)
	aside, err := filepath.Glob(filepath.Join(dir, ".onescrape", "aside-*"))
	require.NoError(t, err)
	require.Len(t, aside, 1)
	// Who found the file before it was renamed has it now.
	d, err := openDict(filepath.Join(dir, ".onescrape"), filepath.Base(aside[0]), 1)
	require.NoError(t, err)
	d.add(key, 4)
	for range 3 {
		mustFold(t, s)
		holds(7)
	}
	d.add(key, 8)
	holds(15)
	d.die()
	compactAll(t, s)
	holds(15)
	live(16)
	holds(31)
	assert.Positive(t, compactAll(t, s))
	holds(31)
	aside, err = filepath.Glob(filepath.Join(dir, ".onescrape", "aside-*"))
	require.NoError(t, err)
	assert.Empty(t, aside)
}

// A file that only says that it is large takes no memory, neither in a scrape nor in a compaction.
func TestCompactSparseFile(t *testing.T) {
	dir := foreignDir(t)
	s := openCompacting(t, dir, shortSettle)
	startDict(t, dir, counterOf(nobody)).set(pyKey("c", "c_total"), 1)
	const size = 1 << 30
	// One without a key, and one whose only key is the whole file.
	for i, length := range []uint32{0, size - 3*8 - 4} {
		path := filepath.Join(dir, counterOf(nobody+1+i))
		b := binary.NativeEndian.AppendUint32(make([]byte, 8), length)
		binary.NativeEndian.PutUint32(b, size)
		require.NoError(t, os.WriteFile(path, b, 0o600))
		require.NoError(t, os.Truncate(path, size))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 2 {
		mustFold(t, s)
		assert.Equal(t, "c_total 1\n", text(t, s))
	}
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(size/8))
	assert.Equal(t, map[string]int{"corrupt": 2}, errorCounts(t, s))
}

// Killed at any step, a compactor has lost and doubled nothing.
func TestCompactKilledAtEveryStep(t *testing.T) {
	long(t)
	dir := foreignDir(t)
	key := pyKey("c", "c_total")
	reader := openForeign(t, Options{}, pythonDir(t, dir, foreign.Options{}))
	total, killed, ended := 0, 0, 0
	for step := 0; ended < 3; step++ {
		for i := range 2 {
			d, err := openDict(dir, counterOf(nobody+(step+i)%3), 1)
			require.NoError(t, err)
			d.add(key, 1)
			d.die()
			total++
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), compactorVariable+"="+dir, fmt.Sprintf("%s=%d", compactorStep, step),
			compactorSettle+"="+shortSettle.String())
		out, err := cmd.CombinedOutput()
		if err == nil {
			ended++
		} else {
			require.Contains(t, err.Error(), "killed", "%s", out)
			killed++
		}
		want := fmt.Sprintf("c_total %d\n", total)
		require.Equal(t, want, text(t, reader), "step %d", step)
		require.Equal(t, want, text(t, openForeign(t, Options{}, pythonDir(t, dir, foreign.Options{}))), "step %d", step)
	}
	assert.Greater(t, killed, 10)
	s := openCompacting(t, dir, shortSettle)
	compactAll(t, s)
	assert.Empty(t, visibleFiles(t, dir))
	assert.Equal(t, fmt.Sprintf("c_total %d\n", total), text(t, s))
	t.Logf("killed at %d steps", killed)
}

// Processes that come and go with a handful of pids, several that compact, some of them killed, and several that
// scrape: no scrape shows less than was counted before it began, or more than when it ended.
func TestCompactUnderFire(t *testing.T) {
	long(t)
	const writers, pids, enough = 3, 4, 200
	dir := foreignDir(t)
	key := pyKey("c", "c_total")
	var low, high, lives, taken atomic.Int64
	var writing, others sync.WaitGroup
	done := make(chan struct{})
	var owned [pids]sync.Mutex // no two processes have one pid at once
	for w := range writers {
		writing.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for end := time.Now().Add(time.Minute); taken.Load() < enough && time.Now().Before(end); lives.Add(1) {
				pid := r.IntN(pids)
				owned[pid].Lock()
				d, err := openDict(dir, counterOf(nobody+pid), 1)
				if !assert.NoError(t, err) {
					owned[pid].Unlock()
					return
				}
				for range r.IntN(4) {
					high.Add(1)
					d.add(key, 1)
					low.Add(1)
				}
				if r.IntN(10) == 0 {
					time.Sleep(time.Millisecond)
				}
				d.die()
				owned[pid].Unlock()
			}
		})
	}
	loop := func(do func()) {
		others.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					do()
				}
			}
		})
	}
	for range 2 {
		s := openForeign(t, Options{}, pythonDir(t, dir, foreign.Options{}))
		seen := int64(0)
		loop(func() {
			least := low.Load()
			n := int64(0)
			families, err := s.Gather()
			if !assert.NoError(t, err) {
				return
			}
			most := high.Load()
			for _, mf := range families {
				if mf.GetName() == "c_total" {
					n = int64(mf.Metric[0].Counter.GetValue())
				}
			}
			assert.GreaterOrEqual(t, n, max(least, seen))
			assert.LessOrEqual(t, n, most)
			seen = n
		})
	}
	// More than any system call takes, also on a machine that is busy: see foreign.CompactOptions.
	const settle = 300 * time.Millisecond
	for range 2 {
		s := openCompacting(t, dir, settle)
		loop(func() {
			n, err := s.Fold(context.Background())
			assert.NoError(t, err)
			taken.Add(int64(n))
		})
	}
	loop(func() {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), compactorVariable+"="+dir, fmt.Sprintf("%s=%d", compactorStep, rand.IntN(12)),
			compactorSettle+"="+settle.String())
		cmd.Run()
	})
	writing.Wait()
	close(done)
	others.Wait()
	s := openCompacting(t, dir, shortSettle)
	compactAll(t, s)
	assert.Empty(t, visibleFiles(t, dir))
	assert.Equal(t, fmt.Sprintf("c_total %d\n", low.Load()), text(t, s))
	assert.GreaterOrEqual(t, taken.Load(), int64(enough))
	t.Logf("%d lives, %d counted, %d files taken", lives.Load(), low.Load(), taken.Load())
}
