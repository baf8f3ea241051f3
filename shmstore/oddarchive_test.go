package shmstore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Whatever has the names of the archives, what the processes' files hold is read, and folded.
func TestNothingWithAnArchivesNameStopsReadersOrFolders(t *testing.T) {
	kinds := map[string]func(path string) error{
		"link":      func(p string) error { return os.Symlink("/nowhere", p) },
		"socket":    func(p string) error { return unix.Mknod(p, unix.S_IFSOCK|0o600, 0) },
		"fifo":      func(p string) error { return unix.Mkfifo(p, 0o600) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"empty":     func(p string) error { return os.WriteFile(p, nil, 0o600) },
	}
	for kind, make := range kinds {
		for _, name := range []string{archiveName, reserveName} {
			t.Run(kind+" "+name, func(t *testing.T) {
				d := storeDir(t)
				v := d.View()
				defer v.Close()
				require.NoError(t, make(filepath.Join(d.path, name)))
				count(t, d, 1)
				die(t, count(t, d, 2))
				assert.Equal(t, uint64(3), total(t, v))
				n, err := v.Fold(FoldOptions{Merge: foldCounters})
				require.NoError(t, err)
				assert.Equal(t, 1, n)
				assert.Equal(t, uint64(3), total(t, v))
			})
		}
	}
}

// A copy of a store that was made by linking its files stays what it was.
func TestFoldWritesToNoFileThatHasAnotherNameToo(t *testing.T) {
	d := storeDir(t)
	v := d.View()
	defer v.Close()
	for range 2 {
		die(t, count(t, d, 1))
		_, err := v.Fold(FoldOptions{Merge: foldCounters})
		require.NoError(t, err)
	}
	kept := filepath.Join(d.path, "kept")
	require.NoError(t, os.Link(filepath.Join(d.path, reserveName), kept))
	before, err := os.ReadFile(kept)
	require.NoError(t, err)
	die(t, count(t, d, 1))
	_, err = v.Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err)
	assert.Equal(t, uint64(3), total(t, v))
	after, err := os.ReadFile(kept)
	require.NoError(t, err)
	assert.Equal(t, before, after)
}
