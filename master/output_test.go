package master

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// replaceProgram puts a script in the place of the master's program.
func (m *testMaster) replaceProgram(script string) {
	m.t.Helper()
	next := m.program + ".next"
	require.NoError(m.t, os.WriteFile(next, []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	require.NoError(m.t, os.Rename(next, m.program))
}

// memory returns a figure of /proc/PID/status in bytes.
func memory(t *testing.T, pid int, key string) (n int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	_, value, ok := strings.Cut(string(text), key+":")
	require.True(t, ok)
	fmt.Sscan(value, &n)
	return n << 10
}

func TestCheckThatFloods(t *testing.T) {
	m := startMaster(t, nil)
	m.replaceProgram("exec yes panic >&2")
	before := memory(t, m.cmd.Process.Pid, "VmHWM")
	r := m.roll(syscall.SIGUSR2)
	assert.Equal(t, abandoned, r.State)
	assert.Contains(t, r.Error, "it wrote more than 4 MiB")
	assert.Contains(t, r.Error, "panic\npanic", "the end of the output is kept")
	assert.Less(t, len(r.Error), 1000)
	assert.Less(t, memory(t, m.cmd.Process.Pid, "VmHWM")-before, 32<<20)
	assert.True(t, m.status().Ready)
}

// What a release has started in its check does not outlive the check, however that ends.
func TestCheckLeavesNoProcess(t *testing.T) {
	long(t)
	for name, end := range map[string]string{"fails": "exit 1", "hangs": "wait"} {
		t.Run(name, func(t *testing.T) {
			m := startMaster(t, options{"ReadyTimeout": 3 * time.Second})
			file := filepath.Join(t.TempDir(), "pid")
			m.replaceProgram(fmt.Sprintf("sleep 1000 & echo $! >%s; %s", file, end))
			assert.Equal(t, abandoned, m.roll(syscall.SIGUSR2).State)
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			var pid int
			fmt.Sscan(string(text), &pid)
			require.Positive(t, pid)
			assert.Eventually(t, func() bool { return gone(pid) }, patient/4, 10*time.Millisecond)
		})
	}
}
