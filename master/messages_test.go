package master

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestListenAndMetricsAddressesDiffer(t *testing.T) {
	for _, c := range []struct {
		listen, metrics string
		same            bool
	}{
		{":8080", ":8080", true}, {"127.0.0.1:8080", ":8080", true}, {":8080", "127.0.0.1:8080", true},
		{"0.0.0.0:8080", "localhost:8080", true}, {"localhost:8080", "127.0.0.1:8080", true}, {"app=:8080", ":8080", true},
		{"[::]:8080", "127.0.0.1:8080", true}, {"0.0.0.0:8080", "[::1]:8080", false}, {"10.0.0.1:8080", "127.0.0.1:8080", false},
		{":8080", ":8081", false}, {":0", ":0", false}, {":8080", "off", false}, {"unix:/tmp/a", ":8080", false},
	} {
		_, err := Config{Listen: []string{c.listen}, MetricsListen: c.metrics}.complete(true)
		if !c.same {
			assert.NoError(t, err, "%v", c)
			continue
		}
		assert.EqualError(t, err, "master: the listen address "+c.listen+" and the metrics address "+c.metrics+
			" are the same: give one of them another port")
	}
}

// The function of a Go program returns an error again and again: the log has it, as for a command, and not as a stop.
func TestFunctionThatReturnsAnErrorIsLogged(t *testing.T) {
	m := startMaster(t, options{"Workers": 1, "Linger": time.Millisecond})
	m.release("fail 0s")
	require.NoError(t, syscall.Kill(m.status().Slots[0].PID, syscall.SIGKILL))
	m.logged("failures=3")
	lines := 0
	for line := range strings.Lines(m.log.String()) {
		if strings.Contains(line, `how="exit status 1"`) && !strings.Contains(line, "crash again and again") {
			lines++
			assert.Regexp(t, `level=(WARN|ERROR) msg="worker exited`, line)
			assert.Contains(t, line, `status="error: `)
			assert.Contains(t, line, "failures=")
			assert.Contains(t, line, "next=")
		}
	}
	assert.GreaterOrEqual(t, lines, 2, m.log.String())
}

// A Go worker that never calls Ready is told what to call, not the protocol below it.
func TestGoWorkerThatNeverCallsReady(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 1, "ReadyTimeout": time.Second})
	m.release("silent")
	require.Equal(t, abandoned, m.roll(syscall.SIGHUP).State)
	m.logged(`help="it must call worker.Worker.Ready when it accepts connections, or Serve, which does; if it needs longer, raise the ready timeout"`)
	assert.NotContains(t, m.log.String(), "NOTIFY_SOCKET")
}

// How a successor ended that never took over is the rollout's error, not the last exit of a slot with 0 restarts.
func TestSlotDoesNotShowAFailedSuccessor(t *testing.T) {
	m := startMaster(t, options{"Workers": 1, "ReadyTimeout": 5 * time.Second})
	m.release("exit")
	r := m.roll(syscall.SIGHUP)
	assert.Equal(t, abandoned, r.State)
	assert.Contains(t, r.Error, "exit status 3")
	m.logged("exit status 3")
	s := m.status().Slots[0]
	assert.Zero(t, s.Restarts)
	assert.Empty(t, s.LastExit)
}
