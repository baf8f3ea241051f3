package shmstore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
	"github.com/onescrape/onescrape/shmstore/internal/osfile"
)

// foldCounters is a merge for stores of whole-numbered counters: one word, the sum. It takes what was released too.
func foldCounters(last *Archive, dead, live []*Reader) (*Archive, error) {
	taken := map[uint64]uint64{}
	if last != nil {
		for _, r := range live {
			if n := last.ArchivedThrough[r.info.Nonce]; n > 0 {
				taken[r.info.Nonce] = n
			}
		}
	}
	sums := map[string]uint64{}
	families := map[string]Family{}
	if last != nil {
		for _, f := range last.Families {
			families[f.Name] = f.Family
			sums[f.Name] += f.All()[0].Words[0]
		}
	}
	work := len(dead) > 0
	for _, r := range slices.Concat(dead, live) {
		if !slices.Contains(dead, r) && !slices.Contains(live, r) {
			continue
		}
		limit := uint64(0)
		if last != nil {
			limit = last.ArchivedThrough[r.info.Nonce]
		}
		isDead := slices.Contains(dead, r)
		err := r.ReadStable(func(i int, cells []uint64) {
			s := r.Series()[i]
			if s.Release > 0 && s.Release <= limit || !isDead && s.Release == 0 {
				return
			}
			f := r.Families()[s.Family]
			families[f.Name] = f
			sums[f.Name] += cells[CounterInteger]
			if !isDead {
				taken[r.info.Nonce] = max(taken[r.info.Nonce], s.Release)
				work = true
			}
		})
		if err != nil {
			return nil, err
		}
	}
	if !work {
		return nil, nil
	}
	a := &Archive{ArchivedThrough: taken}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		a.Families = append(a.Families, ArchivedFamily{Family: families[name], Series: []ArchivedSeries{{
			Values: make([]string, len(families[name].Labels)), Words: []uint64{sums[name]},
		}}})
	}
	return a, nil
}

// total is the sum of all counters of a store, by the rules of a reader.
func total(t require.TestingT, v *View) uint64 {
	for range 1000 {
		require.NoError(t, v.Update())
		var sum uint64
		if a := v.Archive(); a != nil {
			for _, f := range a.Families {
				sum += f.All()[0].Words[0]
			}
		}
		stale := false
		for _, r := range v.Readers() {
			layout := r.Layout()
			for {
				require.NoError(t, r.Refresh())
				var part uint64
				err := r.Read(func(words []uint64) {
					for _, s := range r.Series() {
						if s.Free || v.Archive() != nil && s.Release > 0 && s.Release <= v.Archive().ArchivedThrough[r.Info().Nonce] {
							continue
						}
						part += atomic.LoadUint64(&words[s.Cell])
					}
				})
				if errors.Is(err, ErrLayoutChanged) {
					continue
				}
				require.NoError(t, err)
				sum += part
				break
			}
			stale = stale || r.Layout() != layout
		}
		if stale && !v.Current() {
			continue
		}
		return sum
	}
	require.Fail(t, "the store never stands still")
	return 0
}

// storeDir returns a new store, in memory where there is some.
func storeDir(t testing.TB) *Dir {
	base := t.TempDir()
	if osfile.MemoryFS("/dev/shm") {
		var err error
		base, err = os.MkdirTemp("/dev/shm", "onescrape-test-")
		require.NoError(t, err)
		t.Cleanup(func() { os.RemoveAll(base) })
	}
	return openStore(t, filepath.Join(base, "store"))
}

func openStore(t testing.TB, path string) *Dir {
	d, err := OpenDir(path, DirOptions{Create: true})
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

// die makes a writer's file that of a dead process, which needs no process to die.
func die(t require.TestingT, w *Writer) {
	require.NoError(t, unlockFile(w.space.fd))
	require.NoError(t, unix.Close(w.space.fd))
	require.NoError(t, w.memory.Unmap())
}

// count makes a file with a counter of n.
func count(t require.TestingT, d *Dir, n uint64) *Writer {
	w, err := d.Create(WriterOptions{Slot: -1})
	require.NoError(t, err)
	f, err := w.AddFamily(Family{Name: "jobs_total", Help: "Jobs.", Type: CounterType})
	require.NoError(t, err)
	s, err := w.AddSeries(f, nil)
	require.NoError(t, err)
	atomic.AddUint64(&s.Cells[CounterInteger], n)
	return w
}

// The folding process of the tests: it kills itself at step number ONESCRAPE_TEST_KILL_AT.
func init() {
	path := os.Getenv("ONESCRAPE_TEST_FOLD")
	if path == "" {
		return
	}
	at, _ := strconv.Atoi(os.Getenv("ONESCRAPE_TEST_KILL_AT"))
	d, err := OpenDir(path, DirOptions{})
	if err == nil {
		step := 0
		_, err = d.View().Fold(FoldOptions{Merge: foldCounters, Step: func(name string) {
			if step++; step == at {
				fmt.Println(name)
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}})
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// foldInChild folds in another process that is killed at a step; done is true when it came to its end before that.
func foldInChild(t *testing.T, d *Dir, at int) (step string, done bool) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "ONESCRAPE_TEST_FOLD="+d.path, fmt.Sprintf("ONESCRAPE_TEST_KILL_AT=%d", at))
	out, err := cmd.Output()
	if err == nil {
		return "", true
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, status.Signaled(), "the child failed: %s", out)
	return string(out), false
}

// watcher reads the store all the time and holds every sum against what was written before and after.
type watcher struct {
	low, high atomic.Uint64
	stop      chan struct{}
	done      chan error
	reads     int
}

func watch(d *Dir, low uint64) *watcher {
	w := &watcher{stop: make(chan struct{}), done: make(chan error, 1)}
	w.low.Store(low)
	w.high.Store(low)
	go func() {
		var failure failNow
		defer func() {
			if r := recover(); r != nil {
				w.done <- fmt.Errorf("%v: %s", r, failure.text)
				return
			}
			w.done <- nil
		}()
		v := d.View()
		defer v.Close()
		for last := uint64(0); ; {
			low := w.low.Load()
			sum := total(&failure, v)
			require.GreaterOrEqual(&failure, sum, low)
			require.GreaterOrEqual(&failure, sum, last)
			require.LessOrEqual(&failure, sum, w.high.Load())
			last = sum
			w.reads++
			select {
			case <-w.stop:
				return
			default:
			}
		}
	}()
	return w
}

func (w *watcher) finish(t *testing.T) {
	close(w.stop)
	require.NoError(t, <-w.done)
	assert.Positive(t, w.reads)
}

// failNow is a TestingT for goroutines that are not the test's.
type failNow struct{ text string }

func (f *failNow) Errorf(format string, args ...any) { f.text = fmt.Sprintf(format, args...) }
func (f *failNow) FailNow()                          { panic("failed") }

func TestFoldKilledAtEveryStepLosesAndDoublesNothing(t *testing.T) {
	long(t)
	t.Run("with space", func(t *testing.T) {
		d := storeDir(t)
		killAtEveryStep(t, d, func() {}, func() {})
	})
	t.Run("on a full file system", func(t *testing.T) {
		path := smallFS(t, 8<<20)
		d := openStore(t, filepath.Join(path, "store"))
		_, err := d.View().Fold(FoldOptions{Merge: foldCounters})
		require.NoError(t, err, "the reserve is made while there is space")
		ballast := filepath.Join(path, "ballast")
		killAtEveryStep(t, d, func() { fillUp(t, ballast) }, func() { require.NoError(t, os.Remove(ballast)) })
	})
}

// killAtEveryStep kills a process that folds at each step of the fold, between before and after, while another reads.
func killAtEveryStep(t *testing.T, d *Dir, before, after func()) {
	live := count(t, d, 1)
	w := watch(d, 1)
	want := uint64(1)
	steps := map[string]bool{}
	// Twice around: first the archive is made, then it is replaced.
	for round := range 2 {
		for at := 1; ; at++ {
			n := uint64(1000*round + at)
			w.high.Add(2 * n)
			die(t, count(t, d, n))
			die(t, count(t, d, n))
			want += 2 * n
			w.low.Store(want)
			before()
			step, done := foldInChild(t, d, at)
			if !done {
				steps[step] = true
				assert.Equal(t, want, total(t, d.View()), "after a kill before %q", step)
			}
			after()
			if done {
				break
			}
		}
	}
	w.finish(t)
	assert.Greater(t, len(steps), 10)
	n, err := d.View().Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err)
	assert.Zero(t, n)
	assert.Equal(t, want, total(t, d.View()))
	names, err := d.Names()
	require.NoError(t, err)
	assert.Equal(t, []string{live.Name()}, names)
}

func TestFoldersAndReadersRace(t *testing.T) {
	d := storeDir(t)
	die(t, count(t, d, 1))
	watchers := []*watcher{watch(d, 1), watch(d, 1)}
	stop := make(chan struct{})
	folders := make(chan error, 2)
	for range 2 {
		go func() {
			v := d.View()
			for {
				select {
				case <-stop:
					folders <- v.Close()
					return
				default:
				}
				if _, err := v.Fold(FoldOptions{Merge: foldCounters}); err != nil {
					folders <- err
					return
				}
			}
		}()
	}
	want := uint64(1)
	for i := range uint64(500) {
		for _, w := range watchers {
			w.high.Add(i)
		}
		die(t, count(t, d, i))
		want += i
		for _, w := range watchers {
			w.low.Store(want)
		}
	}
	close(stop)
	require.NoError(t, <-folders)
	require.NoError(t, <-folders)
	for _, w := range watchers {
		w.finish(t)
	}
	assert.Equal(t, want, total(t, d.View()))
}

func TestFoldKeepsTheDirectorySmall(t *testing.T) {
	d := storeDir(t)
	count(t, d, 1)
	v := d.View()
	for range 20 {
		for range 10 {
			die(t, count(t, d, 1))
		}
		n, err := v.Fold(FoldOptions{Merge: foldCounters})
		require.NoError(t, err)
		assert.Equal(t, 10, n)
	}
	entries, err := os.ReadDir(d.path)
	require.NoError(t, err)
	assert.LessOrEqual(t, len(entries), 1+3)
	assert.Equal(t, uint64(201), total(t, d.View()))
}

func TestFoldFreesAFullFileSystem(t *testing.T) {
	path := smallFS(t, 1<<20)
	d := openStore(t, filepath.Join(path, "store"))
	v := d.View()
	_, err := v.Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err, "the reserve is made while there is space")
	want := uint64(0)
	for {
		w, err := d.Create(WriterOptions{Slot: -1})
		if errors.Is(err, ErrFull) {
			break
		}
		require.NoError(t, err)
		require.NoError(t, w.Abandon())
		die(t, w)
		die(t, count(t, d, 7))
		want += 7
	}
	fillUp(t, filepath.Join(path, "ballast"))
	n, err := v.Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err)
	assert.Positive(t, n)
	assert.Equal(t, want, total(t, d.View()))
	_, err = d.Create(WriterOptions{Slot: -1})
	require.NoError(t, err)
}

// Each fold leaves the space for the next one, however full everything else is.
func TestFullFileSystemIsFoldedAgainAndAgain(t *testing.T) {
	path := smallFS(t, 1<<20)
	d := openStore(t, filepath.Join(path, "store"))
	v := d.View()
	_, err := v.Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err, "the reserve is made while there is space")
	want := uint64(0)
	for i := range 5 {
		die(t, count(t, d, 7))
		want += 7
		fillUp(t, filepath.Join(path, fmt.Sprint("ballast", i)))
		n, err := v.Fold(FoldOptions{Merge: foldCounters})
		require.NoError(t, err, "fold %d", i)
		assert.Equal(t, 1, n)
		assert.Equal(t, want, total(t, d.View()))
	}
}

// A store whose file system is full from the beginning does without the second file, and a fold takes the reserve.
func TestStoreWithoutSpaceForAnEmptyArchive(t *testing.T) {
	path := smallFS(t, 1<<20)
	d := openStore(t, filepath.Join(path, "store"))
	w := count(t, d, 7)
	reserve := filepath.Join(path, "place")
	require.NoError(t, os.WriteFile(reserve, make([]byte, minReserve), 0o600))
	fillUp(t, filepath.Join(path, "ballast"))
	require.NoError(t, os.Remove(reserve))
	v := d.View()
	_, err := v.Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err)
	assert.NoFileExists(t, filepath.Join(d.path, archiveName))
	assert.FileExists(t, filepath.Join(d.path, reserveName))
	die(t, w)
	n, err := v.Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Equal(t, uint64(7), total(t, d.View()))
}

// fillUp writes a file as large as there is space for.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			require.ErrorIs(t, err, unix.ENOSPC)
			return
		}
	}
}

func TestBrokenArchiveIsSetAsideAndTheOneBeforeTaken(t *testing.T) {
	d := storeDir(t)
	v := d.View()
	for range 3 {
		die(t, count(t, d, 5))
		_, err := v.Fold(FoldOptions{Merge: foldCounters})
		require.NoError(t, err)
	}
	path := filepath.Join(d.path, archiveName)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, at := range []int{0, arcGen, arcBody + 3} {
		bad := slices.Clone(whole)
		bad[at] ^= 0xff
		require.NoError(t, os.WriteFile(path, bad, 0o600))
		fresh := d.View()
		assert.Equal(t, uint64(10), total(t, fresh), "the generation before")
		assert.ErrorIs(t, fresh.Broken()[archiveName], ErrCorrupt)
		require.NoError(t, os.WriteFile(path, whole, 0o600))
		assert.Equal(t, uint64(15), total(t, fresh))
	}
	bad := slices.Clone(whole)
	bad[arcBody] ^= 0xff
	require.NoError(t, os.WriteFile(path, bad, 0o600))
	die(t, count(t, d, 1))
	_, err = d.View().Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err)
	assert.Equal(t, uint64(11), total(t, d.View()))
	aside, err := filepath.Glob(filepath.Join(d.path, brokenPrefix+"*"))
	require.NoError(t, err)
	require.Len(t, aside, 1)
	kept, err := os.ReadFile(aside[0])
	require.NoError(t, err)
	assert.Equal(t, bad, kept)
}

func TestFoldLeavesWhatItDoesNotKnow(t *testing.T) {
	d := storeDir(t)
	v := d.View()
	die(t, count(t, d, 5))
	_, err := v.Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err)

	// A dead file with a kind of record that this program does not know: read, but not folded.
	w := count(t, d, 2)
	offset, err := w.append(32)
	require.NoError(t, err)
	encoding.Native.PutUint16(w.memory.Bytes[offset+recKind:], 99)
	encoding.Native.PutUint32(w.memory.Bytes[offset+recChecksum:], familyChecksum(w.memory.Bytes[offset:offset+32]))
	w.publish()
	die(t, w)
	n, err := v.Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err)
	assert.Zero(t, n)
	assert.Equal(t, uint64(7), total(t, d.View()))

	// A newer archive: nothing is touched.
	path := filepath.Join(d.path, archiveName)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	encoding.Native.PutUint32(b[arcVersion:], version+1)
	encoding.Native.PutUint32(b[arcChecksum:], encoding.Checksum(b[:arcChecksum]))
	require.NoError(t, os.WriteFile(path, b, 0o600))
	die(t, count(t, d, 3))
	_, err = d.View().Fold(FoldOptions{Merge: foldCounters})
	require.ErrorIs(t, err, ErrVersion)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, b, after)
	names, err := d.Names()
	require.NoError(t, err)
	assert.Len(t, names, 2)
}

func TestChurnOfCountersKeepsTheFileSmallWhileSomebodyFolds(t *testing.T) {
	d := storeDir(t)
	w, err := d.Create(WriterOptions{Slot: 0})
	require.NoError(t, err)
	f, err := w.AddFamily(Family{Name: "jobs_total", Type: CounterType, Labels: []string{"kind"}})
	require.NoError(t, err)
	watcher := watch(d, 0)
	v := d.View()
	var want uint64
	var size int64
	for round := range 20 {
		var alive []*Series
		for i := range 100 {
			s, err := w.AddSeries(f, []string{fmt.Sprint(round, i)})
			require.NoError(t, err)
			watcher.high.Add(1)
			atomic.AddUint64(&s.Cells[CounterInteger], 1)
			want++
			watcher.low.Store(want)
			alive = append(alive, s)
		}
		for _, s := range alive {
			w.Delete(s)
			w.Released(s)
		}
		_, err := v.Fold(FoldOptions{Merge: foldCounters})
		require.NoError(t, err)
		w.mu.Lock()
		w.archived.looked = time.Time{}
		w.mu.Unlock()
		if round == 2 {
			size = w.space.reserved
		}
	}
	watcher.finish(t)
	assert.Equal(t, size, w.space.reserved)
	assert.Equal(t, want, total(t, d.View()))
}

func TestReserveIsMadeAgain(t *testing.T) {
	d := storeDir(t)
	v := d.View()
	for i, spoil := range []func(string) error{
		func(string) error { return nil },
		os.Remove,
		func(p string) error { return os.WriteFile(p, []byte("garbage"), 0o600) },
		func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/nowhere", p)) },
	} {
		require.NoError(t, spoil(filepath.Join(d.path, reserveName)), i)
		die(t, count(t, d, 1))
		_, err := v.Fold(FoldOptions{Merge: foldCounters})
		require.NoError(t, err, i)
		assert.Equal(t, uint64(i+1), total(t, d.View()))
		if i == 0 {
			_, err = os.Stat(filepath.Join(d.path, reserveName))
			require.NoError(t, err)
		}
	}
}

func TestArchiveOfAnEarlierBootForgetsItsTimes(t *testing.T) {
	d := newStore(t)
	die(t, count(t, d, 1))
	_, err := d.View().Fold(FoldOptions{Merge: func(last *Archive, dead, live []*Reader) (*Archive, error) {
		a, err := foldCounters(last, dead, live)
		a.AgedAt, a.Families[0].Ready, a.Families[0].ReadyAt = 3, true, 4
		return a, err
	}})
	require.NoError(t, err)
	a, _, err := d.readArchive(archiveName)
	require.NoError(t, err)
	require.True(t, a.ThisBoot)
	require.EqualValues(t, 3, a.AgedAt)
	require.EqualValues(t, 4, a.Families[0].ReadyAt)

	path := filepath.Join(d.Path(), archiveName)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[arcBoot] ^= 1
	encoding.Native.PutUint32(b[arcChecksum:], encoding.Checksum(b[:arcChecksum]))
	require.NoError(t, os.WriteFile(path, b, 0o600))
	a, _, err = d.readArchive(archiveName)
	require.NoError(t, err)
	assert.False(t, a.ThisBoot)
	assert.Zero(t, a.AgedAt)
	assert.True(t, a.Families[0].Ready)
	assert.Zero(t, a.Families[0].ReadyAt)
}

// payloadOf returns the payload of an archive.
func payloadOf(a *Archive) []byte {
	return appendRest(appendFamilies(nil, a.AgedAt, a.Families), a)
}

func FuzzArchive(f *testing.F) {
	whole := payloadOf(&Archive{
		Folded:          []string{fileName(1, 2)},
		ArchivedThrough: map[uint64]uint64{7: 8},
		Families: []ArchivedFamily{{
			Family: Family{Name: "h", Help: "H.", Type: HistogramType, Labels: []string{"a"}, Bounds: []float64{1, 2}},
			Ready:  true,
			Series: []ArchivedSeries{{Values: []string{"x"}, Created: time.Unix(1, 2), Words: []uint64{1, 2, 3}, Exemplars: []Exemplar{
				{Value: 0.5, At: 3, Labels: AppendExemplarLabel(nil, "trace_id", "4")}, {Value: 3, At: 4},
			}}},
		}},
	})
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	for _, text := range []string{"H.", "x", "trace_id"} {
		// Of the right length, but not UTF-8.
		f.Add(bytes.Replace(whole, []byte(text), bytes.Repeat([]byte{0xff}, len(text)), 1))
	}
	f.Add(payloadOf(archiveThatExpands(1 << 10)))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeArchive(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
				t.Fatal(err)
			}
			return
		}
		again, err := decodeArchive(payloadOf(a))
		require.NoError(t, err)
		assert.Equal(t, len(a.Families), len(again.Families))
		for i, family := range a.Families {
			require.NoError(t, family.checkStored())
			again := again.Families[i].All()
			for j, s := range family.All() {
				for _, v := range s.Values {
					require.NoError(t, CheckValue(v))
				}
				assert.Len(t, again[j].Exemplars, len(s.Exemplars))
			}
		}
		assert.Equal(t, a.ArchivedThrough, again.ArchivedThrough)
	})
}
