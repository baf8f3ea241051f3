package proc

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sleeper starts a process that has the file as descriptor 3 and leads a process group.
func sleeper(t *testing.T, l interface{ File() (*os.File, error) }) *exec.Cmd {
	t.Helper()
	f, err := l.File()
	require.NoError(t, err)
	defer f.Close()
	cmd := exec.Command("sleep", "100")
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = append(os.Environ(), "PROC_TEST=yes")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

// A process that has a socket is found by the socket's address, and by the socket's inode.
func TestHolders(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	cmd := sleeper(t, l.(*net.TCPListener))
	pid := cmd.Process.Pid
	sockets := AtPort(strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	require.Len(t, sockets, 1)
	require.Eventually(t, func() bool { return HasEnv(pid, "PROC_TEST", "yes") }, 20*time.Second, time.Millisecond)
	assert.False(t, HasEnv(pid, "PROC_TEST", "ye"))
	holders := Holders(sockets)
	require.Len(t, holders, 1, "this process does not count")
	assert.Equal(t, Holder{ID: ID{PID: pid, Start: Start(pid)}, Name: "sleep"}, holders[0])
	assert.NotZero(t, holders[0].Start)
	assert.Equal(t, "pid "+strconv.Itoa(pid)+" (sleep)", Text(holders))
	assert.Equal(t, []int{pid}, GroupHolders(pid, sockets))
	assert.Empty(t, GroupHolders(pid, Inodes{1: true}))
	assert.Contains(t, Children(os.Getpid()), pid)
	assert.True(t, OwnUser(pid))
	for inode := range sockets {
		assert.Equal(t, sockets, StillListening([]uint64{inode, 1}))
	}
	l.Close()
	require.NoError(t, cmd.Process.Kill())
	require.Eventually(t, func() bool { return !Alive(pid) }, 20*time.Second, time.Millisecond)
	assert.Contains(t, Zombies(os.Getpid()), pid)
	assert.Empty(t, AtPort("99999"))
}

// A unix socket is found by its path, also when another user's path has a line break and lines that look like the kernel's.
func TestUnixSocketBesideAHostileName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	hostile, err := net.Listen("unix", "@onescrape-test\nno line of the kernel")
	require.NoError(t, err)
	defer hostile.Close()
	sockets := AtPath(path)
	require.Len(t, sockets, 1)
	for inode := range sockets {
		assert.Equal(t, sockets, StillListening([]uint64{inode}))
	}
}
