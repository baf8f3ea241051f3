package master

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/master/internal/bootstrap"
)

func init() { roles["step"] = stepClock }

// stepClock is a new program in the moment of an upgrade, of which the wall clock has been set since the old one ended: all
// times of the handover are as much older as ONESCRAPE_TEST_STEP says. Without Remaining it is one of an older master.
func stepClock() error {
	fd := number(os.Getenv(bootstrap.HandoverEnv))
	f := os.NewFile(uintptr(fd), "handover")
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return err
	}
	if err := os.WriteFile(os.Getenv("ONESCRAPE_TEST_HANDOVER"), text, 0o600); err != nil {
		return err
	}
	step, err := time.ParseDuration(os.Getenv("ONESCRAPE_TEST_STEP"))
	if err != nil {
		return err
	}
	var h any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // a file's change time in nanoseconds is none for a float64
	if err := decoder.Decode(&h); err != nil {
		return err
	}
	h = stepped(h, -step, os.Getenv("ONESCRAPE_TEST_OLDER") != "")
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.WriteAt(marshal(h), 0); err != nil {
		return err
	}
	return syscall.Exec(os.Args[2], os.Args[2:], os.Environ())
}

// stepped returns a value of JSON with all its times changed, and without the durations if it is to be an older master's.
func stepped(v any, by time.Duration, older bool) any {
	switch v := v.(type) {
	case map[string]any:
		if older {
			delete(v, "remaining")
		}
		for key, value := range v {
			v[key] = stepped(value, by, older)
		}
	case []any:
		for i, value := range v {
			v[i] = stepped(value, by, older)
		}
	case string:
		if t, err := time.Parse(time.RFC3339Nano, v); err == nil && !t.IsZero() {
			return t.Add(by)
		}
	}
	return v
}

// stepAtUpgrade has the next upgrade of a master find the wall clock set.
func (m *testMaster) stepAtUpgrade() {
	m.t.Helper()
	self, err := os.Executable()
	require.NoError(m.t, err)
	script := filepath.Join(m.t.TempDir(), "program")
	require.NoError(m.t, os.WriteFile(script, []byte(fmt.Sprintf("#!/bin/sh\n[ -z \"$%s\" ] && exec %s\nexec %s role:step %s\n",
		bootstrap.HandoverEnv, self, self, self)), 0o755))
	require.NoError(m.t, os.Remove(m.program))
	require.NoError(m.t, os.Symlink(script, m.program))
}

// A clock that is set does not make workers that an upgrade has adopted look hung.
func TestClockThatIsSetKillsNobody(t *testing.T) {
	long(t)
	for _, older := range []string{"", "1"} {
		for _, step := range []string{"1h", "-1h"} {
			t.Run(step+older, func(t *testing.T) {
				m := startMaster(t, options{"Workers": 2, "Watchdog": 5 * time.Second, "Linger": 10 * time.Millisecond},
					"ONESCRAPE_TEST_STEP="+step, "ONESCRAPE_TEST_OLDER="+older,
					"ONESCRAPE_TEST_HANDOVER="+filepath.Join(t.TempDir(), "handover"))
				m.stepAtUpgrade()
				r := m.roll(syscall.SIGUSR2)
				assert.Equal(t, done, r.State, r.Error)
				assert.NotContains(t, m.log.String(), "no sign of life")
				assert.NotContains(t, m.log.String(), "did not stop in time")
			})
		}
	}
}

// A clock that is set back does not spare a worker that hangs since before the upgrade.
func TestClockThatIsSetSparesNobody(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 2, "Watchdog": 3 * time.Second, "ReadySettle": 10 * patient},
		"ONESCRAPE_TEST_STEP=-1h", "ONESCRAPE_TEST_OLDER=", "ONESCRAPE_TEST_HANDOVER="+filepath.Join(t.TempDir(), "handover"))
	m.stepAtUpgrade()
	hung := m.status().Slots[1].PID
	require.NoError(t, syscall.Kill(hung, syscall.SIGSTOP))
	m.signal(syscall.SIGUSR2)
	m.logged("master upgraded")
	require.NotContains(t, m.log.String(), "no sign of life", "the machine is too slow for this test")
	m.until("the hung worker is replaced", func(s Status) bool { return s.Slots[1].PID != hung && s.Slots[1].State == ready })
	assert.Contains(t, m.log.String(), "no sign of life")
}

// What a master hands over has all the fields that the first version knew, so that it can be rolled back to.
func TestHandoverKeepsItsOldFields(t *testing.T) {
	long(t)
	path := filepath.Join(t.TempDir(), "handover")
	m := startMaster(t, options{"Workers": 1, "Watchdog": patient, "MaxAge": time.Hour, "Linger": 10 * time.Millisecond},
		"ONESCRAPE_TEST_STEP=0s", "ONESCRAPE_TEST_OLDER=", "ONESCRAPE_TEST_HANDOVER="+path)
	m.stepAtUpgrade()
	require.Equal(t, done, m.roll(syscall.SIGUSR2).State)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var h handover
	require.NoError(t, json.Unmarshal(text, &h))
	cur := h.Slots[0].Cur
	for name, at := range map[string]time.Time{"executed": h.Executed, "began": h.Began, "started": cur.Started,
		"ready_at": cur.ReadyAt, "beat": cur.Beat, "renew_at": cur.RecycleAt} {
		assert.WithinDuration(t, time.Now(), at, 2*time.Hour, name)
	}
	for name, at := range map[string]time.Time{"ready_at": cur.ReadyAt, "beat": cur.Beat, "renew_at": cur.RecycleAt} {
		assert.WithinDuration(t, at, h.Executed.Add(cur.Remaining[name]), time.Millisecond, name)
	}
	assert.True(t, strings.Contains(string(text), `"stop_at":"0001-01-01T00:00:00Z"`))
}
