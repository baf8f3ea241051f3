package reuseport

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// long skips a test that takes seconds.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes seconds")
	}
}

// A unix socket is bound so that nobody else can connect before it has its mode and group.
func TestUnixSocketIsPrivateUntilItHasItsMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := streamSocket(unix.AF_UNIX)
	require.NoError(t, err)
	defer unix.Close(fd)
	_, err = bindPrivately(fd, path)
	require.NoError(t, err)
	info, err := os.Lstat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

// The sockets of every kind of address are blocking for a command, and those that are added later.
func TestBlockingSocketsOfEveryKind(t *testing.T) {
	for _, text := range []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "s")} {
		a, err := ParseAddress(text)
		require.NoError(t, err)
		a.Blocking = true
		g, err := Open(OS{}, a)
		require.NoError(t, err)
		defer g.Close()
		require.NoError(t, g.Add(1))
		for _, so := range g.sockets {
			flags, err := unix.FcntlInt(uintptr(so.fd), unix.F_GETFL, 0)
			require.NoError(t, err)
			assert.Zero(t, flags&unix.O_NONBLOCK, text)
		}
	}
}
