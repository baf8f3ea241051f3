package integration

import (
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// After TERM the service is no longer ready, at once, and still serves for the delay.
func TestShutdownDelay(t *testing.T) {
	long(t)
	s := startDemo(t, 2, append([]string{"--shutdown-delay", "1h"}, quick...)...)
	s.signal(syscall.SIGTERM)
	eventually(t, "the end of readiness", func() bool {
		code, _, err := get(s.base + "/-/ready")
		require.NoError(t, err)
		return code == http.StatusServiceUnavailable
	})
	for range 20 {
		code, _, err := get("http://" + s.app + "/")
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, code)
	}
	assert.Equal(t, 20.0, mustScrape(t, s.metrics).sum("demo_requests_total"))
	// The second ends it at once, if it comes more than a second after the first.
	// None is sent after that: one that meets the end of the process, which no longer handles it, would be its status.
	eventually(t, "the end", func() bool {
		if !strings.Contains(s.stderr.String(), "stopping at once") {
			s.cmd.Process.Signal(syscall.SIGTERM)
			return false
		}
		return !s.alive()
	})
	assert.Equal(t, 0, s.wait())
}

func TestStopSignal(t *testing.T) {
	long(t)
	s := startRun(t, nil, 1, []string{"--ready-timeout", "1s", "--ready-settle", "0s", "--stop-signal", "quit"},
		"sh", "-c", `trap 'echo told to quit; exit 0' QUIT; while :; do sleep 0.05; done`)
	s.signal(syscall.SIGTERM)
	assert.Equal(t, 0, s.wait(), s.stderr.String())
	assert.Equal(t, "told to quit\n", s.stdout.String())
}

// A worker that hangs is killed and replaced.
func TestWatchdog(t *testing.T) {
	long(t)
	s := startDemo(t, 2, append([]string{"--watchdog", "2s"}, quick...)...)
	pid := s.workers()[0]
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	eventually(t, "its successor", func() bool {
		pids := s.workers()
		return len(pids) == 2 && !slices.Contains(pids, pid)
	})
	assert.Positive(t, mustScrape(t, s.metrics).sum("onescrape_worker_restarts_total", "reason", "watchdog"))
}

func TestMaxAge(t *testing.T) {
	long(t)
	s := startDemo(t, 2, append([]string{"--max-age", "1s"}, quick...)...)
	load := startLoad(s.app, 2, true)
	seen := map[int]bool{}
	eventually(t, "successors", func() bool {
		for _, pid := range s.workers() {
			seen[pid] = true
		}
		return len(seen) >= 6
	})
	load.stop()
	assert.Zero(t, load.failed.Load(), "%v", load.failures())
	agree(t, s, load)
	assert.Positive(t, mustScrape(t, s.metrics).sum("onescrape_worker_restarts_total", "reason", "recycle"))
}

// A log that machines read is one, of the master and of the demo's workers.
func TestLogFormat(t *testing.T) {
	s := startDemo(t, 1, "--log.format", "json", "--log.level", "debug")
	_, _, err := get("http://" + s.app + "/panic")
	require.NoError(t, err)
	s.says("handler panicked")
	s.signal(syscall.SIGINT)
	s.wait()
	for line := range strings.Lines(s.stderr.String()) {
		assert.True(t, strings.HasPrefix(line, "{") && strings.HasSuffix(line, "}\n"), line)
	}
}
