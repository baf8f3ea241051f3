package master

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fullPipe returns the ends of a pipe that takes no byte more.
func fullPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	for err == nil {
		require.NoError(t, w.SetWriteDeadline(time.Now().Add(10*time.Millisecond)))
		_, err = w.Write([]byte{'\n'})
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	return r, w
}

// gone reports whether no process has that pid.
func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// logDropped is what the master says of the lines that its log has lost.
func (m *testMaster) logDropped() (n int) {
	body, _ := m.get("http://" + m.status().Metrics + "/metrics")
	_, value, _ := strings.Cut(body, "\nonescrape_log_lines_dropped_total ")
	fmt.Sscan(value, &n)
	return n
}

// ignoredPipe is a variable for launchMaster: the master's parent has ignored SIGPIPE.
const ignoredPipe = "ONESCRAPE_TEST_IGNORED_PIPE=1"

func TestClosedLogPipe(t *testing.T) {
	for name, env := range map[string][]string{"as usual": nil, "ignored by the parent": {ignoredPipe}} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			require.NoError(t, err)
			defer r.Close()
			m := startMaster(t, options{"stderr": w}, env...)
			require.NoError(t, w.Close())
			require.NoError(t, r.Close())
			assert.Equal(t, done, m.roll(syscall.SIGHUP).State)
			assert.Equal(t, done, m.roll(syscall.SIGUSR2).State)
			m.signal(syscall.SIGTERM)
			assert.Zero(t, m.finished(), m.cmd.ProcessState)
		})
	}
}

// The worker says that its master has gone, to nobody, and still answers what it has begun to answer.
func TestClosedLogPipeOfAWorker(t *testing.T) {
	long(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	m := startMaster(t, options{"Workers": 1, "stderr": w})
	require.NoError(t, w.Close())
	s := m.status()
	answer := make(chan string, 1)
	go func() {
		body, code := m.get("http://" + s.Addresses[0] + "/slow?ms=1500")
		answer <- fmt.Sprint(code, " ", body)
	}()
	m.answered("/slow", 1)
	require.NoError(t, r.Close())
	require.NoError(t, m.cmd.Process.Kill())
	assert.Equal(t, fmt.Sprint(http.StatusOK, " ", s.Slots[0].PID), <-answer)
	require.Eventually(t, func() bool { return gone(s.Slots[0].PID) }, patient, 10*time.Millisecond)
}

func TestLogPipeThatNobodyReads(t *testing.T) {
	long(t)
	r, w := fullPipe(t)
	m := startMaster(t, options{"Workers": 1, "stderr": w})
	before := m.status().Slots[0].PID
	require.NoError(t, syscall.Kill(before, syscall.SIGKILL))
	m.until("the worker has a successor", func(s Status) bool {
		return s.Slots[0].PID != before && s.Slots[0].State == ready
	})
	require.Eventually(t, func() bool {
		for range 100 {
			m.signal(syscall.SIGTTOU) // which is refused with a line
			time.Sleep(10 * time.Microsecond)
		}
		return m.logDropped() > 0
	}, patient, time.Millisecond)
	dropped := m.logDropped()
	assert.Equal(t, done, m.roll(syscall.SIGHUP).State)
	assert.Equal(t, done, m.roll(syscall.SIGUSR2).State, "what the log has not taken is lost")
	assert.Greater(t, m.logDropped(), dropped+1000, "and counted")
	m.signal(syscall.SIGTERM)
	assert.Zero(t, m.finished())
	r.Close()
}

// When the log is read again it says what is missing.
func TestLogPipeIsReadAgain(t *testing.T) {
	long(t)
	r, w := fullPipe(t)
	m := startMaster(t, options{"Workers": 1, "stderr": w})
	require.NoError(t, w.Close())
	require.Eventually(t, func() bool {
		for range 100 {
			m.signal(syscall.SIGTTOU)
			time.Sleep(10 * time.Microsecond)
		}
		return m.logDropped() > 0
	}, patient, time.Millisecond)
	m.signal(syscall.SIGTERM)
	all, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Zero(t, m.finished())
	missing := 0
	for s := bufio.NewScanner(strings.NewReader(string(all))); s.Scan(); {
		line := s.Text()
		if line == "" {
			continue
		}
		require.Regexp(t, `^time=\S+ level=\w+ msg=`, line, "whole lines only")
		var n int
		if _, text, ok := strings.Cut(line, " dropped="); ok {
			fmt.Sscan(text, &n)
			assert.Contains(t, line, "log lines are missing here")
		}
		missing += n
	}
	assert.Positive(t, missing)
	assert.Contains(t, string(all), "msg=stopped", "the last words are there")
}

// A worker whose log nobody reads notices that its master has gone, and ends.
func TestLogPipeOfAWorkerThatNobodyReads(t *testing.T) {
	long(t)
	_, w := fullPipe(t)
	m := startMaster(t, options{"stderr": w})
	s := m.status()
	require.NoError(t, m.cmd.Process.Kill())
	for _, sl := range s.Slots {
		require.Eventually(t, func() bool { return gone(sl.PID) }, patient, 10*time.Millisecond)
	}
}

// slowLog is a variable for launchMaster: each line of the log takes a while to be written.
const slowLog = "ONESCRAPE_TEST_SLOW_LOG"

// slowHandler is a log that is read slowly.
type slowHandler struct{ slog.Handler }

func (h slowHandler) Handle(ctx context.Context, r slog.Record) error {
	time.Sleep(5 * time.Millisecond)
	return h.Handler.Handle(ctx, r)
}

// The lines that still wait are written before the exec of an upgrade and before the master ends.
func TestLastWordsOfTheLog(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 1, "Linger": time.Millisecond}, slowLog+"=1")
	for range 10 {
		m.signal(syscall.SIGTTOU)
		time.Sleep(time.Millisecond) // so that no signal is merged with the one before
	}
	assert.Equal(t, done, m.roll(syscall.SIGUSR2).State)
	m.signal(syscall.SIGTERM)
	assert.Zero(t, m.finished())
	m.logged("the new program has passed the check")
	m.logged("msg=stopped")
}

// A worker of a command does not inherit what the master does with SIGPIPE, also where the master's parent ignored it.
func TestCommandsDoNotIgnoreSIGPIPE(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("this system does not show it")
	}
	m := startMaster(t, options{"Workers": 1, "Command": []string{"sleep", "3600"}, "ReadyTimeout": 200 * time.Millisecond,
		"ReadySettle": time.Millisecond}, ignoredPipe)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.status().Slots[0].PID))
	require.NoError(t, err)
	_, value, _ := strings.Cut(string(text), "SigIgn:")
	var ignored uint64
	fmt.Sscanf(strings.TrimSpace(value), "%x", &ignored)
	assert.Zero(t, ignored&(1<<(syscall.SIGPIPE-1)))
}
