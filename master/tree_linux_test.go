package master

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/master/internal/proc"
)

// When the worker of a command has ended, what it has started and what still holds its sockets is stopped, and killed if
// need be. The slot's next worker does not wait for that, and helpers that hold no socket are left alone.
func TestChildrenOfCommands(t *testing.T) {
	long(t)
	for name, test := range map[string]struct {
		helper   string
		graceful time.Duration
		lives    bool // while the next worker is there already
		survives bool
	}{
		"stops":          {"sleep 1000", time.Hour, false, false},
		"ignores TERM":   {"(trap '' TERM; sleep 1000; sleep 1000)", 2 * time.Second, true, false},
		"has no sockets": {"sleep 1000 3<&-", time.Hour, true, true},
		"new session":    {"setsid sleep 1000", time.Hour, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			command, helpers := withHelper(t, test.helper)
			m := startMaster(t, options{"Workers": 1, "Command": command, "GracefulTimeout": test.graceful})
			worker, helper := m.status().Slots[0].PID, helpers()[0]
			require.NoError(t, syscall.Kill(worker, syscall.SIGKILL))
			m.until("there is another worker", func(s Status) bool {
				return len(s.Slots) == 1 && s.Slots[0].PID != worker && s.Slots[0].State == ready
			})
			if test.lives {
				assert.True(t, proc.Alive(helper))
			}
			if !test.survives {
				require.Eventually(t, func() bool { return !proc.Alive(helper) }, patient, 5*time.Millisecond)
				m.logged("processes that it started hold its sockets")
			}
			require.Eventually(t, func() bool { return proc.Start(worker) == 0 }, patient, 5*time.Millisecond,
				"the worker is reaped")
			assert.Equal(t, test.survives, proc.Alive(helper))
			m.answersAll(10)

			// A stop leaves nobody who holds the address.
			addr := m.status().Addresses[0]
			m.signal(syscall.SIGTERM)
			assert.Zero(t, m.finished())
			if name == "stops" || name == "ignores TERM" {
				assert.Empty(t, listeningAt(addr))
			}
			assert.Equal(t, test.survives, proc.Alive(helper))
		})
	}
}

// Graceful signals go to the process that was started, and to no other of its group.
func TestGracefulSignalsGoToTheLeaderOnly(t *testing.T) {
	long(t)
	dir := t.TempDir()
	command, helpers := withHelper(t, "sh -c 'trap \"echo TERM >"+dir+"/signal\" TERM HUP USR1; while :; do sleep 0.05; done' 3<&-")
	m := startMaster(t, options{"Workers": 1, "Command": command, "ReadySettle": time.Millisecond})
	m.signal(syscall.SIGUSR1)
	assert.Equal(t, done, m.roll(syscall.SIGHUP).State)
	m.signal(syscall.SIGTERM)
	assert.Zero(t, m.finished())
	for _, pid := range helpers() {
		assert.True(t, proc.Alive(pid))
	}
	assert.NoFileExists(t, dir+"/signal")
}

// A group that is being stopped goes over an upgrade.
func TestChildrenOfCommandsOverAnUpgrade(t *testing.T) {
	long(t)
	command, helpers := withHelper(t, "(trap '' TERM; sleep 1000; sleep 1000)")
	m := startMaster(t, options{"Workers": 1, "Command": command, "ReadySettle": time.Millisecond,
		"GracefulTimeout": 5 * time.Second})
	worker, helper := m.status().Slots[0].PID, helpers()[0]
	require.NoError(t, syscall.Kill(worker, syscall.SIGKILL))
	m.logged("processes that it started hold its sockets")
	assert.Equal(t, done, m.roll(syscall.SIGUSR2).State)
	m.logged("are killed")
	require.Eventually(t, func() bool { return !proc.Alive(helper) && proc.Start(worker) == 0 }, patient, 5*time.Millisecond)
}
