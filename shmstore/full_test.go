package shmstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore/internal/osfile"
)

// fill adds series, each with its number as value, until there is no space.
func fill(w *Writer, family uint32) (series []*Series, err error) {
	for {
		s, err := w.AddSeries(family, []string{fmt.Sprintf("value-%06d", len(series))})
		if err != nil {
			return series, err
		}
		atomic.StoreUint64(&s.Cells[0], uint64(len(series)))
		series = append(series, s)
	}
}

// requireFilled checks that the file has exactly what fill put there.
func requireFilled(t *testing.T, d *Dir, name string, n int) {
	t.Helper()
	r := openReader(t, d, name)
	require.Len(t, r.Series(), n)
	for i, cells := range cellsOf(t, r) {
		require.Equal(t, fmt.Sprintf("value-%06d", i), r.Series()[i].Values[0])
		require.Equal(t, uint64(i), cells[0])
	}
}

func TestLimitOfAFileIsAnErrorAndTheRestGoesOn(t *testing.T) {
	d := newStore(t)
	const limit = 256 << 10
	w := newWriter(t, d, WriterOptions{Limit: limit})
	f := addFamily(t, w, Family{Name: "x", Type: CounterType, Labels: []string{"a"}})
	series, err := fill(w, f)
	require.ErrorIs(t, err, ErrFull)
	assert.ErrorContains(t, err, "limit")
	assert.Greater(t, len(series), 1000)
	assert.LessOrEqual(t, fileSize(t, d, w.Name()), int64(limit))
	requireFilled(t, d, w.Name(), len(series))
	for range 10_000 {
		_, err := w.AddSeries(f, []string{"one more"})
		require.ErrorIs(t, err, ErrFull)
	}
	_, err = w.AddFamily(Family{Name: "wide", Type: HistogramType, Bounds: make1000()})
	require.ErrorIs(t, err, ErrFull)
	requireFilled(t, d, w.Name(), len(series))
}

func make1000() (bounds []float64) {
	for i := range 1000 {
		bounds = append(bounds, float64(i))
	}
	return bounds
}

func TestGaugesThatGoMakeRoomInAFullFile(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{Limit: 64 << 10})
	f := addFamily(t, w, Family{Name: "x", Type: GaugeType, Mode: Sum, Labels: []string{"a"}})
	series, err := fill(w, f)
	require.ErrorIs(t, err, ErrFull)
	for i, s := range series {
		w.Delete(s)
		w.Released(s)
		s, err := w.AddSeries(f, []string{fmt.Sprintf("value-%06d", i)})
		require.NoError(t, err)
		atomic.StoreUint64(&s.Cells[0], uint64(i))
	}
	r := openReader(t, d, w.Name())
	assert.Len(t, r.Series(), len(series))
	for i, cells := range cellsOf(t, r) {
		assert.Equal(t, fmt.Sprintf("value-%06d", cells[0]), r.Series()[i].Values[0])
	}
}

// smallFS returns a directory on a tmpfs of that size.
func smallFS(t *testing.T, size int) string {
	t.Helper()
	path := t.TempDir()
	if err := mountTmpfs(path, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skip("mounting a small tmpfs needs privileges on Linux:", err)
	}
	t.Cleanup(func() { assert.NoError(t, unmount(path)) })
	return path
}

func TestFullFileSystemIsAnErrorAndTheWriterGoesOnWhenThereIsSpaceAgain(t *testing.T) {
	path := smallFS(t, 1<<20)
	store := filepath.Join(path, "store")
	d := storeAt(t, store)
	w := newWriter(t, d, WriterOptions{})
	f := addFamily(t, w, Family{Name: "x", Type: CounterType, Labels: []string{"a"}})

	ballast, err := os.Create(filepath.Join(path, "ballast"))
	require.NoError(t, err)
	defer ballast.Close()
	require.NoError(t, osfile.Allocate(int(ballast.Fd()), 0, 512<<10))

	series, err := fill(w, f)
	require.ErrorIs(t, err, ErrFull)
	require.ErrorIs(t, err, unix.ENOSPC)
	assert.Greater(t, len(series), 1000)
	free, err := d.Free()
	require.NoError(t, err)
	assert.Less(t, free, uint64(headerSize+firstSegment), "the last pages were used")
	for range 100 {
		_, err := w.AddSeries(f, []string{"one more"})
		require.ErrorIs(t, err, ErrFull)
	}
	_, err = d.Create(WriterOptions{})
	require.ErrorIs(t, err, ErrFull, "no second file either")
	for i, s := range series {
		atomic.AddUint64(&s.Cells[0], 0)
		require.Equal(t, uint64(i), s.Cells[0])
	}
	requireFilled(t, d, w.Name(), len(series))
	names, err := d.Names()
	require.NoError(t, err)
	assert.Len(t, names, 1)

	require.NoError(t, ballast.Truncate(0))
	for n := len(series); n < len(series)+1000; n++ {
		s := addSeries(t, w, f, fmt.Sprintf("value-%06d", n))
		atomic.StoreUint64(&s.Cells[0], uint64(n))
	}
	requireFilled(t, d, w.Name(), len(series)+1000)
	other, err := d.Create(WriterOptions{})
	require.NoError(t, err)
	require.NoError(t, other.Abandon())
}

func TestStoreCannotBeMadeOnAFullFileSystem(t *testing.T) {
	path := smallFS(t, 64<<10)
	ballast, err := os.Create(filepath.Join(path, "ballast"))
	require.NoError(t, err)
	defer ballast.Close()
	for n := int64(1); osfile.Allocate(int(ballast.Fd()), (n-1)*pageSize, n*pageSize) == nil; n++ {
	}
	_, err = OpenDir(filepath.Join(path, "store"), DirOptions{Create: true})
	require.ErrorIs(t, err, ErrFull)
	require.NoError(t, ballast.Truncate(0))
	storeAt(t, filepath.Join(path, "store"))
}

func init() {
	children["file size limit"] = func(dir string) error {
		const limit = 200_000
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return err
		}
		d, err := OpenDir(dir, DirOptions{})
		if err != nil {
			return err
		}
		w, err := d.Create(WriterOptions{})
		if err != nil {
			return err
		}
		f, err := w.AddFamily(Family{Name: "x", Type: CounterType, Labels: []string{"a"}})
		if err != nil {
			return err
		}
		series, err := fill(w, f)
		if !errors.Is(err, ErrFull) {
			return fmt.Errorf("not full: %w", err)
		}
		fmt.Println(len(series))
		return nil
	}
}

func TestLimitOfFileSizeIsAnErrorAndNoSignalThatKills(t *testing.T) {
	d := newStore(t)
	cmd, out := startChild(t, "file size limit", d.Path())
	var n int
	_, err := fmt.Fscan(out, &n)
	require.NoError(t, err)
	require.NoError(t, cmd.Wait())
	assert.Greater(t, n, 500)
	names, err := d.Names()
	require.NoError(t, err)
	require.Len(t, names, 1)
	requireFilled(t, d, names[0], n)
}
