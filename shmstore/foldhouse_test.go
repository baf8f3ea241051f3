package shmstore

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore/internal/osfile"
)

// setAge makes a file look as if it was written so long ago.
func setAge(t *testing.T, path string, age time.Duration) {
	t.Helper()
	at := time.Now().Add(-age)
	require.NoError(t, os.Chtimes(path, at, at))
}

// A hidden file goes when it is old and no process has it for its own.
func TestFoldRemovesHiddenFilesOfTheDeadOnly(t *testing.T) {
	d := storeDir(t)
	hidden := func(name string, age time.Duration) *os.File {
		path := filepath.Join(d.path, hiddenPrefix+name)
		file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		require.NoError(t, err)
		t.Cleanup(func() { file.Close() })
		setAge(t, path, age)
		return file
	}
	hidden("old", 2*hiddenAfter)
	hidden("new", 0)
	require.NoError(t, osfile.LockFile(int(hidden("owned", 2*hiddenAfter).Fd()), 0))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(d.path, hiddenPrefix+"link")))
	_, err := d.View().Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err)
	left, err := filepath.Glob(filepath.Join(d.path, hiddenPrefix+"*"))
	require.NoError(t, err)
	var names []string
	for _, path := range left {
		names = append(names, filepath.Base(path)[len(hiddenPrefix):])
	}
	assert.Equal(t, []string{"link", "new", "owned"}, names)
}

// What a process has open for its own is in use; so is what nobody can find out about; what is not there is not.
func TestFileInUse(t *testing.T) {
	d := storeDir(t)
	f := &folding{dir: d}
	w := count(t, d, 1)
	assert.True(t, f.inUse(w.Name()))
	die(t, w)
	assert.False(t, f.inUse(w.Name()))
	assert.False(t, f.inUse("nothing"))
	require.NoError(t, os.Symlink(w.Name(), filepath.Join(d.path, "link")))
	assert.True(t, f.inUse("link"), "it cannot be opened")
}

// A broken file of a dead process is set aside after a while, one of a living process is not, and the newest eight stay.
func TestFoldKeepsTheNewestEightBrokenFiles(t *testing.T) {
	d := storeDir(t)
	v := d.View()
	breakFile := func(w *Writer) {
		copy(w.memory.Bytes, "no file of ours")
		require.NoError(t, os.Chmod(filepath.Join(d.path, w.Name()), 0o600))
		setAge(t, filepath.Join(d.path, w.Name()), 2*brokenAfter)
	}
	alive := count(t, d, 1)
	breakFile(alive)
	var broken []string
	for range keepBroken + 3 {
		w := count(t, d, 1)
		breakFile(w)
		die(t, w)
		broken = append(broken, w.Name())
		_, err := v.Fold(FoldOptions{Merge: foldCounters})
		require.NoError(t, err)
	}
	left, err := filepath.Glob(filepath.Join(d.path, brokenPrefix+"*"))
	require.NoError(t, err)
	slices.Sort(left)
	require.Len(t, left, keepBroken)
	for i, path := range left {
		assert.Regexp(t, fmt.Sprintf(`^%s\d+-%s$`, brokenPrefix, broken[3+i]), filepath.Base(path))
	}
	assert.FileExists(t, filepath.Join(d.path, alive.Name()))
}

// A directory that changes at each look is read under the lock of the fold; and without it, when its holder does nothing.
func TestViewOfADirectoryThatChangesTakesTheFoldLock(t *testing.T) {
	d := storeDir(t)
	die(t, count(t, d, 5))
	folder, v := d.View(), d.View()
	_, err := folder.Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err)
	require.NoError(t, v.Update())

	lock, err := d.lock(lockFold)
	require.NoError(t, err)
	require.NoError(t, v.updateBusy(), "the holder has stopped, so nothing changes")
	require.NoError(t, lock.Close())
	require.NoError(t, v.updateBusy())
	lock, err = d.lock(lockFold)
	require.NoError(t, err, "the lock was given back")
	require.NoError(t, lock.Close())
	assert.Equal(t, uint64(5), total(t, v))
}

// A fold whose directory cannot be listed any more changes nothing and says so.
func TestFoldOfADirectoryThatCannotBeListed(t *testing.T) {
	d := storeDir(t)
	die(t, count(t, d, 5))
	for _, at := range []string{"locked", "look again", "renamed"} {
		t.Run(at, func(t *testing.T) {
			v := d.View()
			defer v.Close()
			var limit, low unix.Rlimit
			require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
			defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
			die(t, count(t, d, 1))
			_, err := v.Fold(FoldOptions{Merge: foldCounters, Step: func(step string) {
				if step == at {
					low = limit
					low.Cur = 3
					require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
				}
			}})
			require.ErrorIs(t, err, unix.EMFILE)
			require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		})
	}
	assert.Equal(t, uint64(8), total(t, d.View()))
	_, err := d.View().Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err)
	assert.Equal(t, uint64(8), total(t, d.View()))
}
