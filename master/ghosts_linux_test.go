package master

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// withHelper is a command whose worker leaves a process behind, by a line of shell that starts one in the background. The
// pids of the helpers are returned by the function; they are killed at the end of the test.
func withHelper(t *testing.T, helper string) (command []string, pids func() []int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "helpers")
	pids = func() (out []int) {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			pid, err := strconv.Atoi(strings.TrimSpace(line))
			require.NoError(t, err)
			out = append(out, pid)
		}
		return out
	}
	t.Cleanup(func() {
		for _, pid := range pids() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return []string{"sh", "-c", helper + " >/dev/null 2>&1 & echo $! >> '" + file + "'; exec \"$0\" as-command", "self"}, pids
}

// answersAll requires that so many new connections are all answered.
func (m *testMaster) answersAll(n int) {
	m.t.Helper()
	url := m.url("/")
	for range n {
		body, code := m.get(url)
		require.Equal(m.t, http.StatusOK, code, body)
	}
}

// workersReady waits until there are so many slots and all are ready.
func (m *testMaster) workersReady(n int) Status {
	m.t.Helper()
	return m.until(strconv.Itoa(n)+" workers are ready", func(s Status) bool {
		ready := 0
		for _, sl := range s.Slots {
			if sl.State == "ready" {
				ready++
			}
		}
		return len(s.Slots) == n && ready == n
	})
}

// A process that a worker has left behind holds the socket of a slot that was given up: it keeps its place in the
// kernel's group, and nothing is steered there after the next scale-up.
func TestGhostSockets(t *testing.T) {
	long(t)
	command, helpers := withHelper(t, "setsid sleep 1000")
	m := startMaster(t, options{"Workers": 3, "Command": command, "ReadySettle": time.Millisecond})
	for range 2 {
		m.signal(syscall.SIGTTOU)
		m.workersReady(2)
		m.logged("another process holds them")
		m.answersAll(50)
		m.signal(syscall.SIGTTIN)
		m.workersReady(3)
		m.answersAll(100)
	}
	// Without its holders the socket is closed.
	m.signal(syscall.SIGTTOU)
	m.workersReady(2)
	for _, pid := range helpers() {
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	require.Eventually(t, func() bool { return len(listeningAt(m.status().Addresses[0])) == 2 }, patient, 10*time.Millisecond)
	m.signal(syscall.SIGTTIN)
	m.workersReady(3)
	m.answersAll(100)
}

// Another process of this user joins the address before a scale-up: it is named, and gets no connection.
func TestStrangerInTheGroup(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 2})
	join := func() net.Listener { return listenReuse(t, m.status().Addresses[0], true) }
	first := join()
	m.signal(syscall.SIGTTIN)
	m.workersReady(3)
	second := join()
	m.signal(syscall.SIGTTIN)
	m.workersReady(4)
	m.answersAll(100)
	s := m.until("both are named", func(s Status) bool { return len(s.Strangers) == 2 })
	for _, st := range s.Strangers {
		assert.Equal(t, s.Addresses[0], st.Address)
		assert.Contains(t, st.Holders, Holder{PID: os.Getpid(), Name: "master.test"})
	}
	m.logged("another process listens at the workers' address")
	assert.Equal(t, done, m.roll(syscall.SIGUSR2).State, "the next master knows them too")
	m.answersAll(50)
	require.NoError(t, first.Close())
	m.signal(syscall.SIGTTOU)
	m.workersReady(3)
	m.answersAll(100)
	require.NoError(t, second.Close())
	m.until("they have left", func(s Status) bool { return len(s.Strangers) == 0 })
	m.signal(syscall.SIGTTIN)
	m.workersReady(4)
	m.answersAll(100)
}
