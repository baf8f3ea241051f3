package master

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/onescrape/onescrape/worker/sdnotify"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const nobody = 65534

func init() {
	roles["dropped"] = droppedWorker
	roles["stranger"] = sendDescriptors
	roles["lingerer"] = lingerer
}

// mustBeRoot skips a test that needs another user.
func mustBeRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
}

// say sends a datagram to a notify socket, with descriptors.
func say(to string, text string, fds ...int) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var control []byte
	if len(fds) > 0 {
		control = unix.UnixRights(fds...)
	}
	return unix.Sendmsg(fd, []byte(text), control, &unix.SockaddrUnix{Name: to}, 0)
}

// notifyNames returns the names of a master's notify sockets, as every local user can see them.
func (m *testMaster) notifyNames() (names []string) {
	text, err := os.ReadFile("/proc/net/unix")
	require.NoError(m.t, err)
	return regexp.MustCompile(fmt.Sprintf(`@onescrape/%d/\w+`, m.cmd.Process.Pid)).FindAllString(string(text), -1)
}

// asNobody runs a role of this binary as a user that owns nothing. The binary lies where only its owner may go.
func asNobody(t *testing.T, role string, args ...string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"role:" + role}, args...)...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// stranger sends descriptors to a notify socket.
func sendDescriptors() error {
	to := os.Args[2]
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	fds := make([]int, sdnotify.MaxDescriptors)
	for i := range fds {
		fds[i] = int(null.Fd())
	}
	for range 20 {
		if err := say(to, "READY=1\nSTATUS=of a stranger", fds...); err != nil {
			return err
		}
	}
	return nil
}

// lingerer sends a TCP socket whose close waits ten minutes for data that nobody takes.
func lingerer() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	c.SetWriteDeadline(time.Now().Add(time.Second))
	for buf := make([]byte, 1<<20); err == nil; {
		_, err = c.Write(buf)
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	peer, err := l.Accept()
	if err != nil {
		return err
	}
	raw.Control(func(fd uintptr) {
		if err = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 600}); err == nil {
			err = say(os.Args[2], "READY=1", int(fd))
		}
	})
	if err != nil {
		return err
	}
	// The peer, which does not read, stays behind; what was sent is then the last that has the socket.
	rawPeer, err := peer.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	rawPeer.Control(func(fd uintptr) {
		cmd := exec.Command("sleep", "60")
		cmd.ExtraFiles = []*os.File{os.NewFile(fd, "peer")}
		err = cmd.Start()
		cmd.Process.Release()
	})
	return err
}

func openFiles(t *testing.T, pid int) int {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	require.NoError(t, err)
	return len(fds)
}

// Any local user can send descriptors to a worker's notify socket; none of them stays, and nothing that comes with them
// counts.
func TestDescriptorsFromStrangers(t *testing.T) {
	mustBeRoot(t)
	m := startMaster(t, options{"Workers": 1})
	before := openFiles(t, m.cmd.Process.Pid)
	name := m.notifyNames()[0]
	for range 5 {
		asNobody(t, "stranger", name)
	}
	assert.Eventually(t, func() bool { return openFiles(t, m.cmd.Process.Pid) <= before+2 }, patient, 10*time.Millisecond,
		"%d descriptors stay", openFiles(t, m.cmd.Process.Pid)-before)
	assert.Empty(t, m.status().Slots[0].Text)
	assert.NotContains(t, m.log.String(), "another process")
	require.Equal(t, done, m.roll(syscall.SIGHUP).State)
}

// A descriptor whose close takes for ever holds nothing up: not what the worker says, and not an upgrade, whose exec would
// close it.
func TestDescriptorThatLingers(t *testing.T) {
	long(t)
	mustBeRoot(t)
	m := startMaster(t, options{"Workers": 1})
	for range 3 {
		asNobody(t, "lingerer", m.notifyNames()[0])
	}
	require.Equal(t, done, m.roll(syscall.SIGUSR2).State)
	require.Equal(t, done, m.roll(syscall.SIGHUP).State)
}

// What another process of the same user says is not the worker's word, whatever it is.
func TestWordsOfAnotherProcess(t *testing.T) {
	m := startMaster(t, options{"Workers": 1})
	s := m.status()
	for _, name := range m.notifyNames() {
		require.NoError(t, say(name, "X_ONESCRAPE_EXEC=/no/such/program\nERRNO=2\nSTATUS=not mine\nREADY=1"))
	}
	m.logged("READY=1 comes from another process")
	require.NoError(t, syscall.Kill(s.Slots[0].PID, syscall.SIGKILL))
	n := m.until("the worker is replaced", func(n Status) bool {
		return n.Slots[0].PID != s.Slots[0].PID && n.Slots[0].State == ready
	})
	assert.Equal(t, "signal: killed", n.Slots[0].LastExit)
	assert.Empty(t, n.Slots[0].Text)
}

// droppedWorker gives up its privileges, as servers do that need root for their start only, and then speaks.
func droppedWorker() error {
	if err := syscall.Setgid(nobody); err != nil {
		return err
	}
	if err := syscall.Setuid(nobody); err != nil {
		return err
	}
	c := make(chan os.Signal, 4)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGUSR1)
	to := os.Getenv("NOTIFY_SOCKET")
	say(to, "READY=1")
	for beats := 1; ; beats++ {
		select {
		case sig := <-c:
			if sig == syscall.SIGTERM {
				return nil
			}
			say(to, "STOPPING=1")
		case <-time.After(20 * time.Millisecond):
			say(to, "WATCHDOG=1\nSTATUS="+strconv.Itoa(beats))
		}
	}
}

// A worker that has become another user is heard: the pid that the kernel vouches for decides.
func TestDroppedPrivileges(t *testing.T) {
	long(t)
	mustBeRoot(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	m := startMaster(t, options{"Workers": 1, "Command": []string{exe, "role:dropped"}, "ReadySettle": time.Millisecond,
		"ReadyTimeout": 10 * patient, "Watchdog": time.Second})
	s := m.status()
	n := m.until("it has said a hundred times that it lives", func(s Status) bool {
		return len(s.Slots) == 1 && number(s.Slots[0].Text) > 100
	})
	assert.Equal(t, s.Slots[0].PID, n.Slots[0].PID)
	assert.Zero(t, n.Slots[0].Restarts)
	m.signal(syscall.SIGUSR1) // passed on; the worker says that it stops
	m.until("it has a successor", func(n Status) bool {
		return n.Slots[0].PID != s.Slots[0].PID && n.Slots[0].State == ready
	})
	assert.Contains(t, m.log.String(), "worker stops by itself")
}

// systemd's own tool passes a descriptor and waits until the receiver closes it. Called by the worker's own process as root
// it speaks with that process's pid.
func TestSystemdNotify(t *testing.T) {
	mustBeRoot(t)
	tool, err := exec.LookPath("systemd-notify")
	if err != nil {
		t.Skip("there is no systemd-notify")
	}
	result := filepath.Join(t.TempDir(), "result")
	script := fmt.Sprintf("%s --ready --status=hello; echo $? >%s; exec sleep 3600", tool, result)
	m := startMaster(t, options{"Workers": 1, "Command": []string{"sh", "-c", script}, "ReadyTimeout": 10 * patient,
		"ReadySettle": time.Millisecond})
	assert.Equal(t, "hello", m.status().Slots[0].Text)
	var status []byte
	require.Eventually(t, func() bool {
		status, _ = os.ReadFile(result)
		return len(status) > 0
	}, patient, 10*time.Millisecond)
	assert.Equal(t, "0", strings.TrimSpace(string(status)))
}
