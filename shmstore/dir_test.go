package shmstore

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
)

func TestDirectoryThatIsNotSafeIsRefusedAndTheErrorSaysWhatToDo(t *testing.T) {
	base := tempDir(t)
	join := func(name string) string { return filepath.Join(base, name) }
	mkdir := func(name string, mode fs.FileMode) string {
		require.NoError(t, os.Mkdir(join(name), 0o700))
		require.NoError(t, os.Chmod(join(name), mode))
		return join(name)
	}
	file := join("file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	link, dangling := join("link"), join("dangling")
	require.NoError(t, os.Symlink(mkdir("target", 0o700), link))
	require.NoError(t, os.Symlink(join("nothing"), dangling))

	for name, c := range map[string]struct {
		path string
		is   error
		says []string
	}{
		"empty":         {"", nil, []string{"path is empty"}},
		"a file":        {file, nil, []string{"is a file", "name another path"}},
		"below a file":  {join("file/store"), nil, []string{"not a directory"}},
		"symlink":       {link, ErrUnsafeDir, []string{"symbolic link", join("target")}},
		"dangling":      {dangling, ErrUnsafeDir, []string{"symbolic link"}},
		"group":         {mkdir("group", 0o770), ErrUnsafeDir, []string{"0770", "chmod 0700 " + join("group")}},
		"world":         {mkdir("world", 0o707), ErrUnsafeDir, []string{"chmod 0700 " + join("world")}},
		"sticky":        {mkdir("sticky", 0o777|fs.ModeSticky), ErrUnsafeDir, []string{"a directory of its own", join("sticky/NAME")}},
		"not writable":  {mkdir("ro", 0o500), nil, []string{"cannot be written", "chmod 0700 " + join("ro")}},
		"no parent":     {join("no/store"), nil, []string{"parent", "mkdir -p " + join("no")}},
		"name too long": {join(strings.Repeat("x", 300)), nil, []string{"name too long"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := OpenDir(c.path, DirOptions{Create: true})
			require.Error(t, err)
			if c.is != nil {
				assert.ErrorIs(t, err, c.is)
			}
			for _, word := range c.says {
				assert.ErrorContains(t, err, word)
			}
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestAnotherUsersDirectoryIsRefused(t *testing.T) {
	path := filepath.Join(tempDir(t), "theirs")
	require.NoError(t, os.Mkdir(path, 0o700))
	if os.Geteuid() != 0 {
		t.Skip("giving a directory to another user needs root")
	}
	require.NoError(t, os.Chown(path, 65534, 65534))
	_, err := OpenDir(path, DirOptions{Create: true})
	require.ErrorIs(t, err, ErrUnsafeDir)
	assert.ErrorContains(t, err, "uid 65534")
	assert.ErrorContains(t, err, fmt.Sprint("uid ", os.Geteuid()))
}

func TestDirectoryThatIsNoStoreIsAnErrorUnlessItMayBeMade(t *testing.T) {
	base := tempDir(t)
	missing, empty := filepath.Join(base, "missing"), filepath.Join(base, "empty")
	require.NoError(t, os.Mkdir(empty, 0o700))
	for path, says := range map[string]string{missing: "no store at " + missing, empty: "no store of onescrape"} {
		_, err := OpenDir(path, DirOptions{})
		require.ErrorIs(t, err, fs.ErrNotExist)
		assert.ErrorContains(t, err, says)
		assert.ErrorContains(t, err, "name another path")

		d := storeAt(t, path)
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
		again, err := OpenDir(path, DirOptions{})
		require.NoError(t, err)
		assert.Equal(t, d.id, again.id)
		assert.Equal(t, path, again.Path())
		assert.NoError(t, again.Close())
		assert.NoError(t, again.Close())
	}
}

func TestStoreIsMadeOnceHoweverManyMakeIt(t *testing.T) {
	path := filepath.Join(tempDir(t), "store")
	var ids [16][16]byte
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			if d, err := OpenDir(path, DirOptions{Create: true}); assert.NoError(t, err) {
				ids[i] = d.id
				d.Close()
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		assert.Equal(t, ids[0], id)
	}
	assert.NotZero(t, ids[0])
}

func TestBrokenIdentityIsAnError(t *testing.T) {
	good := func() []byte {
		d := newStore(t)
		b, err := os.ReadFile(filepath.Join(d.Path(), identityName))
		require.NoError(t, err)
		return b
	}()
	set := func(offset int, v uint32) []byte {
		b := bytes.Clone(good)
		encoding.Native.PutUint32(b[offset:], v)
		encoding.Native.PutUint32(b[idChecksum:], encoding.Checksum(b[:idChecksum]))
		return b
	}
	for name, c := range map[string]struct {
		content []byte
		is      error
		says    string
	}{
		"empty":      {nil, ErrCorrupt, "0 bytes long"},
		"short":      {good[:idSize-1], ErrCorrupt, "39 bytes long"},
		"magic":      {append([]byte("x"), good[1:]...), ErrCorrupt, "does not begin with"},
		"version":    {set(idVersion, 9), ErrVersion, "version 9, this program knows 1"},
		"byte order": {set(idOrder, 0x04030201), ErrVersion, "byte order"},
		"checksum":   {append(append(bytes.Clone(good[:idStore]), ^good[idStore]), good[idStore+1:]...), ErrCorrupt, "checksum"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(tempDir(t), "store")
			require.NoError(t, os.Mkdir(path, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(path, identityName), c.content, 0o600))
			_, err := OpenDir(path, DirOptions{Create: true})
			require.ErrorIs(t, err, c.is)
			assert.ErrorContains(t, err, c.says)
			assert.ErrorContains(t, err, path)
		})
	}
	t.Run("FIFO", func(t *testing.T) {
		path := filepath.Join(tempDir(t), "store")
		require.NoError(t, os.Mkdir(path, 0o700))
		require.NoError(t, unix.Mkfifo(filepath.Join(path, identityName), 0o600))
		_, err := OpenDir(path, DirOptions{Create: true})
		require.Error(t, err)
	})
}

func TestDefaultPathIsOneOfTheUsersOwn(t *testing.T) {
	path, _ := DefaultPath("my/service name")
	assert.Equal(t, fmt.Sprintf("onescrape-%d-my_service_name", os.Geteuid()), filepath.Base(path))
	free, err := newStore(t).Free()
	require.NoError(t, err)
	assert.NotZero(t, free)
}

func init() {
	children["master"] = func(dir string) error {
		d, err := OpenDir(dir, DirOptions{})
		if err != nil {
			return err
		}
		lock, err := d.LockMaster()
		if err != nil {
			return err
		}
		if err := lock.SetStatus([]byte("mine")); err != nil {
			return err
		}
		fmt.Println("locked")
		bufio.NewReader(os.Stdin).ReadByte()
		return nil
	}
}

func TestSecondMasterIsRefusedAndToldWhoTheFirstIs(t *testing.T) {
	d := newStore(t)
	pid, status, err := d.Master()
	require.NoError(t, err)
	assert.Zero(t, pid)
	assert.Empty(t, status)

	cmd, out := startChild(t, "master", d.Path())
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	_, err = d.LockMaster()
	require.ErrorIs(t, err, ErrInUse)
	assert.ErrorContains(t, err, fmt.Sprint("process ", cmd.Process.Pid))
	assert.ErrorContains(t, err, "name another")
	pid, status, err = d.Master()
	require.NoError(t, err)
	assert.Equal(t, cmd.Process.Pid, pid)
	assert.Equal(t, "mine", string(status))

	require.NoError(t, cmd.Process.Kill())
	cmd.Wait()
	var lock *Lock
	eventually(t, func() bool { lock, err = d.LockMaster(); return err == nil }, "a killed master's lock is free")
	pid, _, err = d.Master()
	require.NoError(t, err)
	assert.Equal(t, os.Getpid(), pid)

	adopted, err := d.AdoptMaster(lock.File())
	require.NoError(t, err)
	other := newStore(t)
	_, err = other.AdoptMaster(lock.File())
	assert.ErrorIs(t, err, ErrForeign)
	require.NoError(t, adopted.Close())
	pid, _, err = d.Master()
	require.NoError(t, err)
	assert.Zero(t, pid)
}

func TestSlotsAreClaimedLowestFirst(t *testing.T) {
	path := newStore(t).Path()
	claim := func(want int) *Lock {
		n, lock, err := storeAt(t, path).ClaimSlot()
		require.NoError(t, err)
		require.Equal(t, want, n)
		return lock
	}
	zero, one := claim(0), claim(1)
	claim(2)
	require.NoError(t, one.Close())
	claim(1)
	require.NoError(t, zero.Close())
	claim(0)
	claim(3)
	master, err := storeAt(t, path).LockMaster()
	require.NoError(t, err)
	require.NoError(t, master.Close())
}

func TestStatusIsReadWholeWhileItIsReplaced(t *testing.T) {
	d := newStore(t)
	lock, err := d.LockMaster()
	require.NoError(t, err)
	defer lock.Close()
	require.Error(t, lock.SetStatus(make([]byte, statusSize)), "too long")

	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; !stop.Load(); n++ {
			length := n * 37 % (statusSize - statusHead + 1)
			if !assert.NoError(t, lock.SetStatus(bytes.Repeat([]byte{byte('a' + length%26)}, length))) {
				return
			}
		}
	})
	for range 2000 {
		pid, status, err := d.Master()
		require.NoError(t, err)
		require.Equal(t, os.Getpid(), pid)
		if len(status) > 0 {
			require.Equal(t, len(status), bytes.Count(status, []byte{byte('a' + len(status)%26)}))
		}
	}
	stop.Store(true)
	wg.Wait()
}

// A directory that all users share must keep its mode: the store is to have one of its own inside.
func TestSharedDirectoryGetsItsOwnAdvice(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shared")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.Chmod(dir, 0o777|os.ModeSticky))
	_, err := OpenDir(dir, DirOptions{Create: true})
	require.ErrorIs(t, err, ErrUnsafeDir)
	assert.EqualError(t, err, "shmstore: "+dir+" is an unsafe directory: all users share it (mode 01777); give the store a directory of "+
		"its own, for example "+filepath.Join(dir, "NAME"))
	assert.NotContains(t, err.Error(), "chmod")
	require.NoError(t, os.Chmod(dir, 0o777))
	_, err = OpenDir(dir, DirOptions{Create: true})
	assert.ErrorContains(t, err, "run chmod 0700 "+dir)
}

// Another local user can make the default directory of a service first.
func TestDirectoryOfAnotherUserGetsAdvice(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory away")
	}
	dir := filepath.Join(t.TempDir(), "onescrape-0-web-app")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.Chown(dir, 65534, 65534))
	_, err := OpenDir(dir, DirOptions{Create: true})
	require.ErrorIs(t, err, ErrUnsafeDir)
	assert.ErrorContains(t, err, "it belongs to uid 65534 and this process is uid 0; run as its owner, or name a path where no other user "+
		"can make a directory first, such as --store.path /run/web-app")
}

func TestSecondMasterIsToldToTakeAnotherName(t *testing.T) {
	d := newStore(t)
	lock, err := d.LockMaster()
	require.NoError(t, err)
	defer lock.Close()
	_, err = d.LockMaster()
	require.ErrorIs(t, err, ErrInUse)
	assert.ErrorContains(t, err, "stop it, or name another service (--service NAME) or another store (--store.path DIR)")
}
