package shmstore

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
)

// A file that cannot be read for the moment may show what others have deleted.
func TestFoldWaitsForFilesThatTheSystemCannotOpenNow(t *testing.T) {
	v := storeDir(t).View()
	f := folding{view: v, dir: v.dir}
	leaveOut := func(err error) {
		v.junk.Begin()
		v.leaveOut("1-0000000000000001.shm", 1, fmt.Errorf("shmstore: read: %w", err))
		v.junk.End()
	}
	for _, err := range []error{nil, unix.EACCES, ErrCorrupt, ErrVersion} {
		leaveOut(err)
		assert.NoError(t, f.complete(), err)
	}
	for _, err := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		leaveOut(err)
		assert.ErrorIs(t, f.complete(), err)
	}
}

// No size that a file claims for itself makes the system lack something.
func TestFileThatIsLargerThanAnyAddressIsCorrupt(t *testing.T) {
	d := storeDir(t)
	w := count(t, d, 1)
	path := filepath.Join(d.path, w.Name())
	require.NoError(t, os.Chmod(path, 0o600))
	if err := os.Truncate(path, 1<<60); err != nil {
		t.Skipf("the file system has no file of this size: %v", err)
	}
	_, err := d.Open(w.Name())
	require.ErrorIs(t, err, ErrCorrupt)
	die(t, count(t, d, 2))
	n, err := d.View().Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err)
	assert.Equal(t, 1, n)
}

// What remains of a fold that found no space for all is neither dead, as it is not folded, nor gone.
func TestFoldThatHasNoSpaceForAllSeesTheRestAsLiving(t *testing.T) {
	d := storeDir(t)
	small, large := count(t, d, 1), count(t, d, 2)
	for i := range 10 {
		_, err := large.AddFamily(Family{Name: fmt.Sprint("f", i), Type: CounterType})
		require.NoError(t, err)
	}
	released, err := large.AddSeries(0, nil)
	require.NoError(t, err)
	large.Delete(released)
	large.Released(released)
	die(t, small)
	die(t, large)
	living := count(t, d, 4)
	calls := 0
	names := func(readers []*Reader) (names []string) {
		for _, r := range readers {
			names = append(names, r.info.Name)
		}
		return names
	}
	n, err := d.View().Fold(FoldOptions{Merge: func(last *Archive, dead, live []*Reader) (*Archive, error) {
		if calls++; calls == 1 {
			return nil, ErrFull
		}
		assert.Equal(t, []string{small.Name()}, names(dead))
		assert.Equal(t, []string{living.Name(), large.Name()}, names(live))
		assert.Zero(t, live[1].Releases(), "nothing of it is taken, or forgotten elsewhere because of it")
		return foldCounters(last, dead, nil)
	}})
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Equal(t, uint64(7), total(t, d.View()))
}

// The number of the generation that was broken is given again.
func TestViewTakesAnArchiveForNoOtherOfTheSameGeneration(t *testing.T) {
	d := storeDir(t)
	v := d.View()
	for range 2 {
		die(t, count(t, d, 5))
		_, err := d.View().Fold(FoldOptions{Merge: foldCounters})
		require.NoError(t, err)
	}
	assert.Equal(t, uint64(10), total(t, v))
	path := filepath.Join(d.path, archiveName)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[arcBody] ^= 0xff
	require.NoError(t, os.WriteFile(path, b, 0o600))
	die(t, count(t, d, 100))
	_, err = d.View().Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err)
	require.NoError(t, v.Update())
	assert.Equal(t, uint64(2), v.Archive().Generation)
	assert.Equal(t, uint64(105), total(t, v), "the generation before, and what was folded since")
}

func TestArchiveForgetsProcessesWhoseFilesHaveGone(t *testing.T) {
	d := storeDir(t)
	v := d.View()
	release := func() *Writer {
		w := count(t, d, 1)
		s, err := w.AddSeries(0, nil)
		require.NoError(t, err)
		w.Delete(s)
		w.Released(s)
		return w
	}
	stays, goes := release(), release()
	_, err := v.Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err)
	assert.Equal(t, map[uint64]uint64{stays.nonce: 1, goes.nonce: 1}, v.Archive().ArchivedThrough)
	require.NoError(t, goes.Abandon())
	die(t, count(t, d, 1))
	_, err = v.Fold(FoldOptions{Merge: func(last *Archive, dead, live []*Reader) (*Archive, error) {
		a, err := foldCounters(last, dead, live)
		if a != nil {
			a.ArchivedThrough[goes.nonce] = 1
		}
		return a, err
	}})
	require.NoError(t, err)
	assert.Equal(t, map[uint64]uint64{stays.nonce: 1}, v.Archive().ArchivedThrough)
}

// A newer program may give a family an option that this one passes over: it can be read, but would be lost in a fold.
func TestFoldLeavesAnArchiveThatItDoesNotKnowWhole(t *testing.T) {
	d := storeDir(t)
	v := d.View()
	die(t, count(t, d, 5))
	_, err := v.Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err)
	path := filepath.Join(d.path, archiveName)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b = b[:arcBody+encoding.Native.Uint64(b[arcLength:])]
	body := appendFamily(nil, &v.Archive().Families[0].Family)
	option := encoding.Native.AppendUint16(nil, 99)
	option = append(encoding.AppendUint32(option, 3), "new"...)
	at := bytes.Index(b, body)
	require.Positive(t, at)
	encoding.Native.PutUint32(b[at-4:], uint32(len(body)+len(option)))
	b = slices.Insert(b, at+len(body)-2, option...)
	encoding.Native.PutUint64(b[arcLength:], uint64(len(b)-arcBody))
	encoding.Native.PutUint32(b[arcPayload:], encoding.Checksum(b[arcBody:]))
	encoding.Native.PutUint32(b[arcChecksum:], encoding.Checksum(b[:arcChecksum]))
	require.NoError(t, os.WriteFile(path, b, 0o600))
	die(t, count(t, d, 2))
	assert.Equal(t, uint64(7), total(t, v))
	_, err = v.Fold(FoldOptions{Merge: foldCounters})
	require.ErrorIs(t, err, ErrVersion)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, b, after)
	assert.Equal(t, uint64(7), total(t, v))
}

// More files than a process can open are folded nevertheless, and a view that cannot open all leaves room for that.
func TestFoldOfMoreFilesThanCanBeOpened(t *testing.T) {
	d := storeDir(t)
	const files, descriptors = 356, 60
	want := uint64(0)
	for i := range uint64(files) {
		die(t, count(t, d, i))
		want += i
	}
	var limit, low unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	low = limit
	open, err := os.ReadDir("/dev/fd")
	require.NoError(t, err)
	low.Cur = uint64(len(open)) + descriptors
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	v, folder := d.View(), d.View()
	defer v.Close()
	defer folder.Close()
	require.ErrorIs(t, v.Update(), unix.EMFILE)
	for _, most := range []int{files, 0} {
		n, err := folder.Fold(FoldOptions{Merge: foldCounters})
		require.NoError(t, err)
		assert.Equal(t, most, n)
		assert.Equal(t, want, total(t, v))
	}
	names, err := d.Names()
	require.NoError(t, err)
	assert.Empty(t, names, "all are folded")
}

// There is an end to what one fold takes: the next one takes the rest.
func TestFoldOfMoreFilesThanOneFoldTakes(t *testing.T) {
	before := foldAtOnce
	defer func() { foldAtOnce = before }()
	foldAtOnce = 10
	d := storeDir(t)
	living := count(t, d, 1000)
	for range 25 {
		die(t, count(t, d, 1))
	}
	v, folder := d.View(), d.View()
	defer v.Close()
	defer folder.Close()
	for _, most := range []int{10, 10, 5, 0} {
		n, err := folder.Fold(FoldOptions{Merge: foldCounters})
		require.NoError(t, err)
		assert.Equal(t, most, n)
		assert.Equal(t, uint64(1025), total(t, v))
	}
	names, err := d.Names()
	require.NoError(t, err)
	assert.Equal(t, []string{living.Name()}, names)
}

// The file of a dead process has no descriptor in a view that folds. It is read as before, whatever becomes of it.
func TestReaderWhoseFileIsClosed(t *testing.T) {
	read := func(r *Reader) (sum uint64, err error) {
		err = r.ReadStable(func(_ int, cells []uint64) { sum += cells[CounterInteger] })
		return sum, err
	}
	for _, c := range []struct {
		name   string
		change func(path string) error
		fails  bool
	}{
		{"stays", func(string) error { return nil }, false},
		{"is removed", os.Remove, false},
		{"is replaced", func(path string) error {
			if err := os.WriteFile(path+"x", nil, 0o600); err != nil {
				return err
			}
			return os.Rename(path+"x", path)
		}, false},
		{"is truncated", func(path string) error {
			if err := os.Chmod(path, 0o600); err != nil {
				return err
			}
			return os.Truncate(path, 100)
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := storeDir(t)
			w := count(t, d, 7)
			die(t, w)
			r, err := d.Open(w.Name())
			require.NoError(t, err)
			r.closeFile()
			require.NoError(t, r.Refresh())
			alive, err := r.Alive()
			require.NoError(t, err)
			assert.False(t, alive)
			require.NoError(t, c.change(filepath.Join(d.path, w.Name())))
			sum, err := read(r)
			if c.fails {
				assert.ErrorIs(t, err, ErrCorrupt)
			} else {
				require.NoError(t, err)
				assert.Equal(t, uint64(7), sum)
			}
			assert.NoError(t, r.Close())
		})
	}
}
