package master

import (
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func (m *testMaster) release(behavior string) {
	m.t.Helper()
	require.NoError(m.t, os.WriteFile(m.behavior, []byte(behavior), 0o600))
}

// A release that breaks long after it was ready ends the rollout, however long after, and what was not replaced serves.
func TestReleaseThatBreaksAfterItWasReady(t *testing.T) {
	long(t)
	for release, test := range map[string]struct {
		options options
		reason  string
	}{
		"die 6s":    {options{}, "after it was ready: exit status 4"},
		"killed 6s": {options{}, "after it was ready: signal: killed"},
		"fail 6s":   {options{}, "after it was ready: exit status 1"},
		"hang 1s":   {options{"Watchdog": 5 * time.Second}, "no sign of life in time"},
	} {
		t.Run(release, func(t *testing.T) {
			if testing.Short() && release != "die 6s" {
				t.Skip("one kind of end is enough for a short run")
			}
			// The third successor starts before the first one breaks, and settles after that.
			o := options{"Workers": 3, "ReadySettle": 2500 * time.Millisecond, "GracefulTimeout": 10 * time.Second,
				"Linger": 50 * time.Millisecond}
			for key, value := range test.options {
				o[key] = value
			}
			m := startMaster(t, o)
			before := m.status()
			m.release(release)
			r := m.roll(syscall.SIGHUP)
			assert.Equal(t, abandoned, r.State)
			assert.Contains(t, r.Error, "slot 0: the new worker ended")
			assert.Contains(t, r.Error, test.reason)
			assert.Less(t, r.Done, 3)
			s := m.status()
			assert.Equal(t, before.Slots[2].PID, s.Slots[2].PID, "the last old worker stays")
			assert.True(t, s.Ready)
		})
	}
}

// The rollout is not over before the last successor has settled, where READY=1 alone is not trusted.
func TestTheOnlyWorkerBreaksAfterItWasReady(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 1, "ReadySettle": time.Millisecond, "Linger": time.Millisecond})
	m.release("die 2s")
	r := m.roll(syscall.SIGHUP)
	assert.Equal(t, abandoned, r.State)
	assert.Contains(t, r.Error, "after it was ready: exit status 4")
}

// A worker that takes the place of a new one is of the same release, and its error counts as much.
func TestReleaseThatBreaksAtItsSecondStart(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 2, "ReadySettle": 3 * time.Second, "Linger": time.Millisecond})
	before := m.status()
	m.release("finish 4s")
	m.signal(syscall.SIGHUP)
	m.until("the first worker is replaced", func(s Status) bool { return s.Rollout != nil && s.Rollout.Done == 1 })
	m.release("exit@0") // the successor in slot 1 may read it too
	r := m.until("the rollout is over", func(s Status) bool { return s.Rollout.State != running }).Rollout
	assert.Equal(t, abandoned, r.State)
	assert.Contains(t, r.Error, "slot 0: ")
	assert.Contains(t, r.Error, "exit status 3")
	assert.Equal(t, before.Slots[1].PID, m.status().Slots[1].PID)
}

// Workers that end with 0 are of the kind that lives for a few requests only: they do not end a rollout.
func TestWorkersThatEndWellDoNotEndARollout(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 3, "ReadySettle": time.Second, "Linger": time.Millisecond})
	m.release("finish 1500ms")
	r := m.roll(syscall.SIGHUP)
	assert.Equal(t, Rollout{ID: r.ID, Kind: "reload", State: done, Done: 3, Total: 3}, *r)
	assert.False(t, m.status().Slots[0].CrashLoop)
}

// Three errors in a row after READY=1 are a crash loop: starts back off and count as failures, and the service is not
// ready while every slot is in one.
func TestCrashLoopAfterReady(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 2, "Linger": time.Millisecond})
	m.release("die 5100ms") // longer than a worker needs to settle
	for _, sl := range m.status().Slots {
		require.NoError(t, syscall.Kill(sl.PID, syscall.SIGKILL))
	}
	ready := func() int {
		_, code := m.get("http://" + m.status().Metrics + "/-/ready")
		return code
	}
	require.Eventually(t, func() bool { return ready() == http.StatusOK }, patient, time.Millisecond,
		"two errors in a row are no crash loop")
	s := m.until("both slots are in a crash loop", func(s Status) bool {
		return len(s.Slots) == 2 && s.Slots[0].CrashLoop && s.Slots[1].CrashLoop
	})
	assert.False(t, s.Ready)
	m.logged("failures=3")
	m.logged("crash again and again after READY=1")
	// It stays so while a worker of that kind is ready.
	s = m.until("a worker is ready again", func(s Status) bool { return s.Slots[0].State == "ready" })
	assert.False(t, s.Ready)
	assert.Equal(t, http.StatusServiceUnavailable, ready())

	m.release("ok")
	assert.Equal(t, done, m.roll(syscall.SIGHUP).State)
	s = m.status()
	assert.False(t, s.Slots[0].CrashLoop)
	assert.True(t, s.Ready)
	assert.Equal(t, http.StatusOK, ready())
}
