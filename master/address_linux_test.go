package master

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/master/internal/reuseport"
)

// What is passed as a socket must be one that listens, and as many as were said.
func TestListenFDsThatAreNoSockets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	defer socket.Close()
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	pipe, err := os.OpenFile(fifo, os.O_RDWR, 0)
	require.NoError(t, err)
	defer pipe.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	connected := os.NewFile(uintptr(pair[0]), "connected")
	defer connected.Close()
	defer unix.Close(pair[1])
	for name, test := range map[string]struct {
		fds    string
		files  []*os.File
		reason string
	}{
		"FIFO":      {"1", []*os.File{pipe}, "not a socket|socket operation on non-socket"},
		"connected": {"1", []*os.File{connected}, "it does not listen"},
		"too many":  {"3", []*os.File{socket}, "descriptor [45]"},
	} {
		t.Run(name, func(t *testing.T) {
			m := launchMaster(t, options{"Listen": nil, "files": test.files}, "LISTEN_FDS="+test.fds,
				"ONESCRAPE_TEST_ACTIVATE=1")
			assert.Equal(t, 1, m.finished())
			assert.Regexp(t, "of LISTEN_FDS.*("+test.reason+")|("+test.reason+").*of LISTEN_FDS", m.log.String())
		})
	}
}

// A unix socket has the mode and the group that its address says, and is private until then.
func TestUnixSocketsModeAndGroup(t *testing.T) {
	for options, want := range map[string]os.FileMode{"": 0o755, "?mode=0660": 0o660, "?mode=600&group=": 0o600, "?group=": 0o755} {
		path := filepath.Join(t.TempDir(), "s")
		text := "unix:" + path + options
		gid := os.Getegid()
		if len(options) > 6 && options[len(options)-6:] == "group=" {
			if os.Geteuid() == 0 {
				gid = 12345
			}
			text += fmt.Sprint(gid)
		}
		a, err := reuseport.ParseAddress(text)
		require.NoError(t, err, text)
		before := unix.Umask(0o022)
		g, err := reuseport.Open(reuseport.OS{}, a)
		assert.Equal(t, 0o022, unix.Umask(before))
		require.NoError(t, err)
		info, err := os.Lstat(path)
		require.NoError(t, err)
		assert.Equal(t, want, info.Mode().Perm(), text)
		assert.EqualValues(t, gid, info.Sys().(*syscall.Stat_t).Gid, text)
		g.Close()
	}
	for _, wrong := range []string{"unix:/x?mode=9", "unix:/x?mode=7777", "unix:/x?group=no-such-group", "unix:/x?color=red",
		"unix:@x?mode=0660", "unix:?mode=0660", "unix:/x?mode=%zz"} {
		_, err := reuseport.ParseAddress(wrong)
		assert.Error(t, err, wrong)
	}
}

// pythonServer accepts on the blocking socket that it got, as a program that knows nothing of us does. A signal ends it.
const pythonServer = `
import os, socket
s = socket.socket(fileno=3)
n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
name = os.environ["NOTIFY_SOCKET"]
n.sendto(b"READY=1", "\0" + name[1:] if name[0] == "@" else name)
while True:
    try:
        c, _ = s.accept()
    except BlockingIOError:
        if not os.get_blocking(3) and os.environ.get("PATIENT"):
            import select
            select.select([s], [], [])
            continue
        raise
    c.setblocking(True)
    c.recv(65536)
    body = b"python %d" % os.getpid()
    c.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    c.close()
`

// Commands get blocking sockets. They are made so once, so a Go server that makes them non-blocking for itself drains in
// time, whether it comes before or after a server that blocks in accept.
func TestBlockingSockets(t *testing.T) {
	long(t)
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	script, choice := filepath.Join(dir, "server.py"), filepath.Join(dir, "choice")
	require.NoError(t, os.WriteFile(script, []byte(pythonServer), 0o600))
	choose := func(command string) { require.NoError(t, os.WriteFile(choice, []byte("exec "+command+"\n"), 0o600)) }
	m := func(o options) *testMaster {
		o["Workers"], o["Command"], o["GracefulTimeout"] = 1, []string{"sh", choice, "self"}, 10*time.Second
		o["ReadySettle"], o["Linger"] = 500*time.Millisecond, 50*time.Millisecond
		return launchMaster(t, o)
	}
	golang := "$1 as-command"
	t.Run("a blocking server, a Go server, a patient one", func(t *testing.T) {
		choose(python + " " + script)
		m := m(options{})
		m.until("it is ready", func(s Status) bool { return s.Ready })
		for _, next := range []string{golang, "env PATIENT=1 " + python + " " + script, golang} {
			m.answersAll(10)
			choose(next)
			r := m.roll(syscall.SIGHUP)
			assert.Equal(t, done, r.State, r.Error)
		}
		m.answersAll(10)
		assert.NotContains(t, m.log.String(), "did not stop in time")
		assert.NotContains(t, m.log.String(), "BlockingIOError")
	})
	t.Run("non-blocking", func(t *testing.T) {
		choose(python + " " + script)
		m := m(options{"SocketNonblocking": true, "ReadyTimeout": 5 * time.Second})
		m.logged("BlockingIOError")
	})
	t.Run("Run's function", func(t *testing.T) {
		a, err := Config{}.address("127.0.0.1:0")
		require.NoError(t, err)
		assert.False(t, a.Blocking)
	})
}
