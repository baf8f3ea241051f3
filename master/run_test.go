package master

import (
	"context"
	"encoding/json"
	"errors"
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
	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore"
)

func openStore(path string) (*shmstore.Dir, error) {
	return shmstore.OpenDir(path, shmstore.DirOptions{})
}

func TestServesWithAllWorkers(t *testing.T) {
	m := startMaster(t, options{"Workers": 3})
	s := m.status()
	require.Len(t, s.Slots, 3)
	pids := map[string]bool{}
	require.Eventually(t, func() bool {
		body, code := m.get(m.url("/"))
		require.Equal(t, http.StatusOK, code, body)
		pids[body] = true
		return len(pids) == 3
	}, patient, time.Millisecond)
	for _, sl := range s.Slots {
		assert.True(t, pids[strconv.Itoa(sl.PID)])
		assert.Equal(t, ready, sl.State)
	}
	m.signal(syscall.SIGTERM)
	assert.Equal(t, 0, m.finished(), m.log)
}

func TestEndpoint(t *testing.T) {
	m := startMaster(t, nil)
	base := "http://" + m.status().Metrics
	m.get(m.url("/"))
	body, code := m.get(base + "/metrics")
	assert.Equal(t, http.StatusOK, code)
	for _, want := range []string{`onescrape_workers{state="ready"} 2`, "onescrape_build_info{",
		`onescrape_worker_restarts_total{reason="signal"} 0`, "onescrape_workers_without_store 0",
		`test_requests_total{path="/"} 1`} {
		assert.Contains(t, body, want)
	}
	for path, want := range map[string]string{"/-/healthy": "healthy", "/-/ready": "Ready", "/": "<title>onescrape",
		"/api/v1/status": `"steering": "on"`} {
		body, code := m.get(base + path)
		assert.Equal(t, http.StatusOK, code, path)
		assert.Contains(t, body, want)
	}
	_, code = m.get(base + "/nothing")
	assert.Equal(t, http.StatusNotFound, code)
}

func TestRespawnAfterSIGKILL(t *testing.T) {
	m := startMaster(t, nil)
	before := m.status().Slots[0]
	require.NoError(t, syscall.Kill(before.PID, syscall.SIGKILL))
	s := m.until("the slot has another worker", func(s Status) bool {
		return len(s.Slots) == 2 && s.Slots[0].PID != before.PID && s.Slots[0].State == ready
	})
	assert.Equal(t, 1, s.Slots[0].Restarts)
	assert.Contains(t, s.Slots[0].LastExit, "killed")
}

func TestWorkerEnvironment(t *testing.T) {
	m := startMaster(t, options{"Workers": 1, "Watchdog": time.Minute, "MaxRequests": 1000}, "GOMAXPROCS=7", "KEPT=yes")
	body, _ := m.get(m.url("/env"))
	var got struct {
		Env  []string
		Slot int
	}
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	assert.Zero(t, got.Slot)
	env := strings.Join(got.Env, "\n")
	for _, want := range []string{"KEPT=yes", "GOMAXPROCS=7", "ONESCRAPE_DIR=" + m.store, "ONESCRAPE_SLOT=0",
		"ONESCRAPE_LINGER=5s", "ONESCRAPE_GRACEFUL_TIMEOUT=1m0s"} {
		assert.Contains(t, got.Env, want)
	}
	// What only this process may use is no longer there for its children.
	for _, gone := range []string{"LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_", "ONESCRAPE_EXEC", "ONESCRAPE_LIFELINE"} {
		assert.NotContains(t, env, "\n"+gone)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	m := startMaster(t, options{"Listen": []string{"app=unix:" + path}})
	assert.Contains(t, m.status().Steering, "off: unix sockets")
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) },
	}}
	r, err := client.Get("http://app/")
	require.NoError(t, err)
	r.Body.Close()
	m.signal(syscall.SIGTERM)
	require.Zero(t, m.finished())
	_, err = os.Stat(path)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// listenReuse listens at a TCP address, with SO_REUSEPORT if reuse is set.
func listenReuse(t *testing.T, addr string, reuse bool) net.Listener {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			if reuse {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			}
		}), err)
	}}
	l, err := config.Listen(t.Context(), "tcp", addr)
	require.NoError(t, err)
	return l
}

func TestAddressInUse(t *testing.T) {
	long(t)
	for _, reuse := range []bool{false, true} {
		l := listenReuse(t, "127.0.0.1:0", reuse)
		defer l.Close()
		addr := l.Addr().String()
		m := launchMaster(t, options{"Listen": []string{addr}})
		assert.Equal(t, 1, m.finished())
		m.logged("listen " + addr + ": in use by pid " + strconv.Itoa(os.Getpid()))
	}
}

func TestMetricsAddressInUse(t *testing.T) {
	long(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	m := launchMaster(t, options{"MetricsListen": l.Addr().String()})
	assert.Equal(t, 1, m.finished())
	m.logged("in use by pid " + strconv.Itoa(os.Getpid()))
}

func TestSecondMasterIsRefused(t *testing.T) {
	m := startMaster(t, nil)
	second := launchMaster(t, options{"Store": m.store})
	assert.Equal(t, 1, second.finished())
	second.logged(strconv.Itoa(m.cmd.Process.Pid))
	assert.True(t, m.status().Ready, "the first goes on")
}

func TestNoSuchCommand(t *testing.T) {
	m := launchMaster(t, options{"Command": []string{"/no/such/command"}})
	assert.Equal(t, 1, m.finished())
	m.logged(`error: master: cannot run "/no/such/command"`)
}

func TestCommandThatCannotBeExecuted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "garbage")
	require.NoError(t, os.WriteFile(path, []byte("\x7fELF garbage"), 0o755))
	m := launchMaster(t, options{"Command": []string{path}})
	assert.Equal(t, 1, m.finished())
	m.logged("error: master: cannot run " + path)
}

func TestCommandThatExitsAtOnce(t *testing.T) {
	long(t)
	m := launchMaster(t, options{"Command": []string{"false"}})
	assert.Equal(t, 1, m.finished())
	assert.Equal(t, 1, strings.Count(m.log.String(), `level=ERROR msg="worker exited before it was ready`), "one line")
	m.logged("no worker became ready")
	m.logged("exit status 1")
}

func TestCommandWorker(t *testing.T) {
	m := startMaster(t, options{"Command": []string{"self"}, "ReadySettle": 50 * time.Millisecond})
	body, code := m.get(m.url("/"))
	assert.Equal(t, http.StatusOK, code, body)
}

func TestCommandThatForksBeforeItListens(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	m := launchMaster(t, options{"Workers": 1, "Command": []string{"sh", "-c", self + " as-command & wait"}})
	m.logged("forks before it listens")
}

// A server that does not speak sd_notify.
func TestCommandWithoutNotify(t *testing.T) {
	long(t)
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed")
	}
	script := `import os, socket
s = socket.socket(fileno=3)
s.setblocking(True)
while True:
    c, _ = s.accept()
    c.recv(65536)
    c.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")
    c.close()
`
	m := startMaster(t, options{"Workers": 1, "ReadyTimeout": 300 * time.Millisecond,
		"Command": []string{"python3", "-c", script}})
	body, _ := m.get(m.url("/"))
	assert.Equal(t, "hello", body)
	m.logged("has not said READY=1")
}

func TestQuickStop(t *testing.T) {
	long(t)
	for name, signals := range map[string][]syscall.Signal{"INT": {syscall.SIGINT}, "QUIT": {syscall.SIGQUIT},
		"TERM twice": {syscall.SIGTERM, syscall.SIGTERM}} {
		t.Run(name, func(t *testing.T) {
			m := startMaster(t, options{"GracefulTimeout": time.Hour})
			url := m.url("/slow?ms=3600000")
			ended := make(chan struct{})
			go func() {
				m.get(url)
				close(ended)
			}()
			m.answered("/slow", 1)
			for i, sig := range signals {
				m.signal(sig)
				if i < len(signals)-1 {
					m.until("it stops", func(s Status) bool { return !s.Ready })
				}
			}
			// Within a second of the first, another one is the same request.
			for last := signals[len(signals)-1]; syscall.Kill(m.cmd.Process.Pid, last) == nil && len(m.exit) == 0; {
				time.Sleep(50 * time.Millisecond)
			}
			assert.Zero(t, m.finished())
			<-ended
		})
	}
}

func TestGracefulStopFinishesRequests(t *testing.T) {
	long(t)
	m := startMaster(t, nil)
	url, metrics := m.url("/slow?ms=1000"), "http://"+m.status().Metrics
	type answer struct {
		body string
		code int
	}
	got := make(chan answer, 1)
	go func() {
		body, code := m.get(url)
		got <- answer{body, code}
	}()
	m.answered("/slow", 1)
	m.signal(syscall.SIGTERM)
	require.Eventually(t, func() bool {
		_, code := m.get(metrics + "/-/ready")
		return code == http.StatusServiceUnavailable
	}, patient, time.Millisecond, "the endpoint answers until the last worker has gone")
	a := <-got
	assert.Equal(t, http.StatusOK, a.code, a.body)
	assert.Zero(t, m.finished())
}

func TestShutdownDelay(t *testing.T) {
	long(t)
	m := startMaster(t, options{"ShutdownDelay": time.Hour})
	m.signal(syscall.SIGTERM)
	s := m.until("it is not ready any more", func(s Status) bool { return s.PID != 0 && !s.Ready })
	_, code := m.get("http://" + s.Addresses[0] + "/")
	assert.Equal(t, http.StatusOK, code, "it goes on serving")
	// One within a second of the first is the same request, so the one that stops it at once comes later.
	require.Eventually(t, func() bool {
		m.cmd.Process.Signal(syscall.SIGTERM)
		return strings.Contains(m.log.String(), "stopping at once")
	}, patient, 100*time.Millisecond)
	assert.Zero(t, m.finished())
}

// When the master is killed its workers drain, and the next one waits for the address.
func TestMasterKilled(t *testing.T) {
	long(t)
	m := startMaster(t, nil)
	s := m.status()
	url := m.url("/slow?ms=700")
	got := make(chan int, 1)
	go func() {
		_, code := m.get(url)
		got <- code
	}()
	m.answered("/slow", 1)
	m.signal(syscall.SIGKILL)
	next := startMaster(t, options{"Store": m.store, "Listen": s.Addresses})
	assert.Equal(t, http.StatusOK, <-got)
	for _, sl := range s.Slots {
		require.Eventually(t, func() bool { return syscall.Kill(sl.PID, 0) != nil }, patient, 10*time.Millisecond)
	}
	body, _ := next.get("http://" + next.status().Metrics + "/metrics")
	assert.Contains(t, body, `test_requests_total{path="/slow"} 1`, "what was counted stays")
}

func TestWatchdog(t *testing.T) {
	m := startMaster(t, options{"Workers": 1, "Watchdog": 200 * time.Millisecond})
	s := m.status()
	require.NoError(t, syscall.Kill(s.Slots[0].PID, syscall.SIGSTOP))
	s = m.until("the hung worker is replaced", func(n Status) bool {
		return len(n.Slots) == 1 && n.Slots[0].PID != s.Slots[0].PID && n.Slots[0].State == ready
	})
	assert.Contains(t, s.Slots[0].LastExit, "no sign of life")
}

func TestWorkerThatStopsByItself(t *testing.T) {
	m := startMaster(t, options{"Workers": 1})
	s := m.status()
	require.NoError(t, syscall.Kill(s.Slots[0].PID, syscall.SIGTERM))
	m.until("the worker is replaced", func(n Status) bool {
		return len(n.Slots) == 1 && n.Slots[0].PID != s.Slots[0].PID && n.Slots[0].State == ready
	})
}

// Whoever stops a whole group sends TERM to the workers too; the master's own is then the second.
func TestTermToTheWholeGroup(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 1})
	s := m.status()
	url := m.url("/slow?ms=1500")
	code := make(chan int, 1)
	go func() {
		_, c := m.get(url)
		code <- c
	}()
	m.answered("/slow", 1)
	m.signal(syscall.SIGTERM)
	for range 3 {
		require.NoError(t, syscall.Kill(s.Slots[0].PID, syscall.SIGTERM))
	}
	assert.Equal(t, http.StatusOK, <-code)
	assert.Zero(t, m.finished())
}

// timeout(1) tells the process to stop and then its group: the second TERM is the same request, and what is being answered
// is answered.
func TestTwoTermsAtOnce(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 1})
	url := m.url("/slow?ms=2500")
	code := make(chan int, 1)
	go func() {
		_, c := m.get(url)
		code <- c
	}()
	m.answered("/slow", 1)
	m.signal(syscall.SIGTERM)
	m.until("it stops", func(s Status) bool { return !s.Ready })
	m.signal(syscall.SIGTERM)
	m.logged("the same request")
	assert.Equal(t, http.StatusOK, <-code)
	assert.Zero(t, m.finished())
}
