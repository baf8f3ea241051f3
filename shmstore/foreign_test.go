package shmstore

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestWhatIsNoFileOfTheStoreIsLeftOut(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	addSeries(t, w, addFamily(t, w, everyType[0]), "200", "/")
	content, err := os.ReadFile(filepath.Join(d.Path(), w.Name()))
	require.NoError(t, err)
	at := func(name string) string { return filepath.Join(d.Path(), name) }
	name := func(n int) string { return fileName(4711, uint64(n)) }

	require.NoError(t, os.Symlink(w.Name(), at(name(1))))
	require.NoError(t, os.Symlink("/dev/zero", at(name(2))))
	require.NoError(t, unix.Mkfifo(at(name(3)), 0o600))
	require.NoError(t, os.Mkdir(at(name(4)), 0o700))
	require.NoError(t, os.WriteFile(at(name(5)), content, 0o600))
	require.NoError(t, os.WriteFile(at(name(6)), nil, 0o600))
	require.NoError(t, os.WriteFile(at(name(7)), bytes.Repeat([]byte("garbage!"), 2048), 0o600))
	socket, err := net.Listen("unix", at(name(8)))
	if err == nil {
		defer socket.Close()
	} else {
		// The path is longer than an address may be.
		require.NoError(t, os.Symlink("nowhere", at(name(8))))
	}
	foreign := newStore(t)
	theirs := newWriter(t, foreign, WriterOptions{})
	require.NoError(t, os.Rename(filepath.Join(foreign.Path(), theirs.Name()), at(theirs.Name())))
	for _, n := range []string{"x.shm", "1-2.shm", "-1-0000000000000001.shm", "01-0000000000000001.shm",
		"1-00000000000000AB.shm", "1-000000000000000g.shm", ".shm"} {
		require.NoError(t, os.WriteFile(at(n), content, 0o600))
	}

	for name, says := range map[string]string{
		name(1):                   "symbolic link",
		name(2):                   "symbolic link",
		name(3):                   "no regular file",
		name(4):                   "no regular file",
		name(5):                   "not that of its header",
		name(8):                   "it is",
		theirs.Name():             "id of another",
		"x.shm":                   "its name",
		"1-2.shm":                 "its name",
		"-1-0000000000000001.shm": "its name",
		"01-0000000000000001.shm": "its name",
		"1-00000000000000AB.shm":  "its name",
		"1-000000000000000g.shm":  "its name",
	} {
		_, err := d.Open(name)
		if assert.ErrorIs(t, err, ErrForeign, name) {
			assert.ErrorContains(t, err, says)
			assert.ErrorContains(t, err, name)
		}
	}
	for name, says := range map[string]string{name(6): "0 bytes long", name(7): "does not begin with"} {
		_, err := d.Open(name)
		if assert.ErrorIs(t, err, ErrCorrupt, name) {
			assert.ErrorContains(t, err, says)
		}
	}
	_, err = d.Open(name(99))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	for _, name := range []string{"../x.shm", "lock", "", "/etc/passwd"} {
		_, err = d.Open(name)
		assert.ErrorIs(t, err, ErrForeign, name)
	}

	names, err := d.Names()
	require.NoError(t, err)
	for _, name := range names {
		assert.True(t, strings.HasSuffix(name, fileSuffix) && !strings.HasPrefix(name, "."), name)
	}
	assert.Len(t, openReader(t, d, w.Name()).Series(), 1, "the good one is as it was")
}

func TestSecondNameOrAnotherOwnerIsForeign(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	path := filepath.Join(d.Path(), w.Name())
	second := filepath.Join(d.Path(), fileName(os.Getpid(), 1))
	require.NoError(t, os.Link(path, second))
	_, err := d.Open(filepath.Base(second))
	require.ErrorIs(t, err, ErrForeign)
	require.ErrorContains(t, err, "its name is not that of its header")
	openReader(t, d, w.Name())

	if os.Geteuid() != 0 {
		t.Skip("giving a file to another user needs root")
	}
	require.NoError(t, os.Chown(path, 65534, 65534))
	_, err = d.Open(w.Name())
	require.ErrorIs(t, err, ErrForeign)
	assert.ErrorContains(t, err, "uid 65534")
}

func TestFileThatIsUnlinkedIsReadOn(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	f := addFamily(t, w, Family{Name: "x", Type: CounterType, Labels: []string{"a"}})
	addSeries(t, w, f, "0")
	r := openReader(t, d, w.Name())
	require.NoError(t, w.Abandon())
	for n := range 1000 {
		addSeries(t, w, f, fmt.Sprint(n+1))
	}
	require.NoError(t, r.Refresh())
	assert.Len(t, r.Series(), 1001)
	assert.Len(t, cellsOf(t, r), 1001)
	_, err := d.Open(w.Name())
	assert.ErrorIs(t, err, fs.ErrNotExist)
}
