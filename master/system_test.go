package master

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/master/internal/proc"
)

// systemd is a supervisor of the master that only listens.
func systemd(t *testing.T) (env string, said <-chan string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	out := make(chan string, 1000)
	go func() {
		defer close(out)
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			out <- string(buf[:n])
		}
	}()
	return "NOTIFY_SOCKET=" + path, out
}

// hear waits for a datagram with that line and returns it.
func receive(t *testing.T, said <-chan string, line string) string {
	t.Helper()
	deadline := time.After(patient)
	for {
		select {
		case s := <-said:
			for l := range strings.Lines(s + "\n") {
				if strings.TrimSpace(l) == line {
					return s
				}
			}
		case <-deadline:
			require.FailNow(t, "nobody said "+line)
		}
	}
}

func TestSystemdIsTold(t *testing.T) {
	long(t)
	env, said := systemd(t)
	m := startMaster(t, nil, env, "WATCHDOG_USEC=200000")
	receive(t, said, "READY=1")
	receive(t, said, "WATCHDOG=1")
	m.signal(syscall.SIGHUP)
	reloading := receive(t, said, "RELOADING=1")
	assert.Regexp(t, `(?m)^MONOTONIC_USEC=\d+$`, reloading, "in the same datagram, as Type=notify-reload wants it")
	assert.Contains(t, reloading, "STATUS=reloading: 2 of 2 workers ready")
	assert.Contains(t, receive(t, said, "READY=1"), "STATUS=ready: 2 of 2 workers ready")
	m.signal(syscall.SIGUSR2)
	receive(t, said, "RELOADING=1")
	receive(t, said, "READY=1")
	receive(t, said, "WATCHDOG=1")
	m.signal(syscall.SIGTERM)
	receive(t, said, "STOPPING=1")
	assert.Zero(t, m.finished())
}

// The workers never speak to the master's own supervisor.
func TestSystemdIsNotTheWorkers(t *testing.T) {
	env, _ := systemd(t)
	m := startMaster(t, options{"Workers": 1}, env, "WATCHDOG_USEC=60000000", "WATCHDOG_PID=1")
	body, _ := m.get(m.url("/env"))
	assert.NotContains(t, body, "NOTIFY_SOCKET")
	assert.NotContains(t, body, "WATCHDOG")
}

// Socket activation: the sockets are systemd's, and stay over a restart and an upgrade.
func TestSocketActivation(t *testing.T) {
	long(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	defer f.Close()
	m := startMaster(t, options{"Listen": nil, "files": []*os.File{f}}, "LISTEN_FDS=1", "LISTEN_FDNAMES=web",
		"ONESCRAPE_TEST_ACTIVATE=1")
	s := m.status()
	assert.Equal(t, []string{l.Addr().String()}, s.Addresses)
	assert.Contains(t, s.Steering, "off: sockets from systemd")
	check := func() {
		t.Helper()
		body, code := m.get("http://" + l.Addr().String())
		assert.Equal(t, http.StatusOK, code, body)
	}
	check()
	assert.Equal(t, done, m.roll(syscall.SIGHUP).State)
	check()
	assert.Equal(t, done, m.roll(syscall.SIGUSR2).State)
	check()
	m.signal(syscall.SIGTTIN)
	m.until("a third worker is ready", func(s Status) bool { return len(s.Slots) == 3 && s.Slots[2].State == ready })
	m.signal(syscall.SIGTTOU)
	m.until("and has gone", func(s Status) bool { return len(s.Slots) == 2 })
	check()
}

// A worker that shuts its socket down ends it for every process; the slot gets another one.
func TestShutDownSocketIsReplaced(t *testing.T) {
	m := startMaster(t, options{"Workers": 2})
	pid := m.status().Slots[0].PID
	require.Eventually(t, func() bool {
		answer, _ := m.get(m.url("/shutdown?slot=0"))
		return answer == strconv.Itoa(pid)
	}, patient, time.Millisecond)
	_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself, because it cannot accept any more
	m.until("it has a new worker", func(s Status) bool { return s.Slots[0].PID != pid && s.Slots[0].State == ready })
	m.logged("has shut its socket down")
	seen := make(map[string]bool)
	require.Eventually(t, func() bool {
		answer, code := m.get(m.url("/"))
		require.Equal(t, http.StatusOK, code, answer)
		seen[answer] = true
		return len(seen) == 2
	}, patient, time.Millisecond)
}

// As pid 1 of a container: reaps what others leave, upgrades in place, stops on TERM.
func TestAsPidOne(t *testing.T) {
	long(t)
	out, err := exec.Command("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "true").CombinedOutput()
	if err != nil {
		t.Skipf("no new pid namespace here: %v %s", err, out)
	}
	m := launchMaster(t, nil, "ONESCRAPE_TEST_PID_ONE=1")
	status := func() (s Status) {
		s, _ = m.storeStatus()
		return s
	}
	require.Eventually(t, func() bool { return status().Ready }, patient, 10*time.Millisecond)
	s := status()
	require.Equal(t, 1, s.PID)
	for range 20 {
		_, code := m.get("http://" + s.Addresses[0] + "/orphan")
		require.Equal(t, http.StatusOK, code)
	}
	// The master's pid out here: the child of unshare.
	pids := proc.Children(m.cmd.Process.Pid)
	require.Len(t, pids, 1)
	one := pids[0]
	require.Eventually(t, func() bool { return len(proc.Zombies(one)) == 0 && len(proc.Children(one)) == 2 }, patient,
		10*time.Millisecond)
	require.NoError(t, syscall.Kill(one, syscall.SIGUSR2))
	require.Eventually(t, func() bool { s := status(); return s.Rollout != nil && s.Rollout.State == done }, patient,
		10*time.Millisecond)
	assert.Equal(t, 1, status().PID)
	require.NoError(t, syscall.Kill(one, syscall.SIGTERM))
	assert.Zero(t, m.finished(), m.log)
}

func TestEmbed(t *testing.T) {
	store := newStore(t)
	run := func(env ...string) string {
		self, err := os.Executable()
		require.NoError(t, err)
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), programEnv+"=embed", "ONESCRAPE_TEST_STORE="+store)
		cmd.Env = append(cmd.Env, env...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	out := run()
	assert.Contains(t, out, "twice: master: Embed was called before")
	assert.Contains(t, out, "in use: process ", "another master is refused")
	assert.Contains(t, out, `test_requests_total{path="child"} 3`)
	assert.NotContains(t, out, `path="master"`, "the master is no writer")
}

// A systemd that does not read holds up nothing, and is told the last state when it reads again.
func TestSystemdThatDoesNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer conn.Close()
	fill, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer fill.Close()
	for err == nil {
		require.NoError(t, fill.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
		_, err = fill.Write([]byte("X=1"))
	}
	m := startMaster(t, nil, "NOTIFY_SOCKET="+path)
	require.Equal(t, done, m.roll(syscall.SIGHUP).State)
	said := make(chan string, 1000)
	go func() {
		for b := make([]byte, 4096); ; {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			said <- string(b[:n])
		}
	}()
	receive(t, said, "READY=1")
	m.signal(syscall.SIGTERM)
	receive(t, said, "STOPPING=1")
}
