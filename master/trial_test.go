package master

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a configuration says wrong is an error at the start and in the check, never a panic after the exec.
func TestTelemetryPathThatCannotBeServed(t *testing.T) {
	long(t)
	for _, path := range []string{"/{", "/a b", "/{x}", "/a//b", "/-/ready"} {
		t.Run(path, func(t *testing.T) {
			m := startMaster(t, options{"Workers": 1})
			before := m.status()
			m.configure(options{"TelemetryPath": path})
			r := m.roll(syscall.SIGUSR2)
			assert.Equal(t, abandoned, r.State)
			assert.Contains(t, r.Error, "master: telemetry path ")
			assert.Equal(t, before.Slots[0].PID, m.status().Slots[0].PID)

			start := launchMaster(t, options{"Workers": 1, "TelemetryPath": path})
			assert.Equal(t, 1, start.finished())
			start.logged("error: master: telemetry path ")
			assert.NotContains(t, start.log.String(), "panic")
		})
	}
}

// What else fails only when it is built.
func TestTrialOfAConfiguration(t *testing.T) {
	good := Config{Command: []string{"true"}, Listen: []string{"127.0.0.1:0"}}
	try := func(change func(*Config)) error {
		c := good
		change(&c)
		c, err := c.complete(false)
		require.NoError(t, err)
		return c.trial()
	}
	assert.NoError(t, try(func(*Config) {}))
	assert.ErrorContains(t, try(func(c *Config) { c.Listen = []string{"127.0.0.1:99999"} }), "listen 127.0.0.1:99999")
	assert.ErrorContains(t, try(func(c *Config) { c.MetricsListen = "127.0.0.1:http2000" }), "metrics address")
	assert.ErrorContains(t, try(func(c *Config) { c.Command = []string{"no-such-command"} }), "no-such-command")
	assert.ErrorContains(t, try(func(c *Config) { c.Handler = func(http.Handler) http.Handler { panic("no key") } }), "no key")
	assert.ErrorContains(t, try(func(c *Config) { c.Handler = func(http.Handler) http.Handler { return nil } }), "no handler")
}

// scripted makes the program a shell script. In a check it first runs the lines given, in which $NAME is a file beside the
// program, then itself as the program is.
func (m *testMaster) scripted(name, inCheck string) {
	m.t.Helper()
	self, err := os.Executable()
	require.NoError(m.t, err)
	text := fmt.Sprintf("#!/bin/sh\ncd %q\nif [ -n \"$ONESCRAPE_CHECK\" ]; then\n%s\nfi\nexec %q \"$@\"\n",
		filepath.Dir(m.program), inCheck, self)
	require.NoError(m.t, os.WriteFile(filepath.Join(filepath.Dir(m.program), name), []byte(text), 0o700))
}

// install makes a file beside the program the program, as a deployment does.
func (m *testMaster) install(name string) {
	m.t.Helper()
	require.NoError(m.t, os.Rename(filepath.Join(filepath.Dir(m.program), name), m.program))
}

// A program that is replaced after its check is checked again before it is executed.
func TestProgramThatIsReplacedAfterItsCheck(t *testing.T) {
	long(t)
	t.Run("by a broken one", func(t *testing.T) {
		m := startMaster(t, options{"Workers": 1})
		before := m.status()
		m.scripted("broken", "echo this one is broken >&2; exit 7")
		m.scripted("good", "mv broken program")
		m.install("good")
		r := m.roll(syscall.SIGUSR2)
		assert.Equal(t, abandoned, r.State)
		assert.Contains(t, r.Error, "this one is broken")
		m.logged("has changed on disk since its check began")
		after := m.status()
		assert.True(t, after.Ready)
		assert.Equal(t, before.Slots[0].PID, after.Slots[0].PID)
	})
	t.Run("by a good one", func(t *testing.T) {
		m := startMaster(t, options{"Workers": 1})
		m.scripted("better", "echo > better-was-checked")
		m.scripted("good", "mv better program")
		m.install("good")
		assert.Equal(t, done, m.roll(syscall.SIGUSR2).State)
		assert.FileExists(t, filepath.Join(filepath.Dir(m.program), "better-was-checked"))
	})
	t.Run("by writing into it", func(t *testing.T) {
		m := startMaster(t, options{"Workers": 1})
		m.scripted("good", "(echo '#!/bin/sh'; echo 'exit 7') > program")
		m.install("good")
		r := m.roll(syscall.SIGUSR2)
		assert.Equal(t, abandoned, r.State)
		assert.Contains(t, r.Error, "exit status 7")
	})
	t.Run("again and again", func(t *testing.T) {
		m := startMaster(t, options{"Workers": 1})
		m.scripted("good", "cp program copy; mv copy program")
		m.install("good")
		r := m.roll(syscall.SIGUSR2)
		assert.Equal(t, abandoned, r.State)
		assert.Contains(t, r.Error, "has changed on disk")
		assert.Equal(t, maxChecks-1, strings.Count(m.log.String(), "it is checked again"))
		assert.True(t, m.status().Ready)
	})
}
