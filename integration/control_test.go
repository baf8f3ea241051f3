package integration

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// quick makes a drain short: the clients of these tests pause between two requests only where the machine makes them.
var quick = []string{"--linger", map[bool]string{false: "500ms", true: "2s"}[race], "--graceful-timeout", "10s"}

// control runs a command that steers the server, and holds that it succeeded.
func (s *server) control(t *testing.T, args ...string) string {
	t.Helper()
	r := command(t, append([]string{args[0], "--store.path", s.store}, args[1:]...)...)
	require.Equal(t, 0, r.status, "%v: %+v", args, r)
	return r.stdout
}

func TestControlReports(t *testing.T) {
	long(t)
	s := startDemo(t, 2, quick...)
	assert.Contains(t, s.control(t, "reload"), "2 workers replaced")
	assert.Contains(t, s.control(t, "scale", "3"), "from 2 to 3 workers")
	assert.Contains(t, s.control(t, "scale", "1"), "from 3 to 1 workers")
	out := s.control(t, "status")
	for _, word := range []string{strconv.Itoa(s.pid()), "ready", s.store, "steering", "reload"} {
		assert.Contains(t, out, word)
	}
	pids := s.workers()
	assert.Contains(t, s.control(t, "stop"), strconv.Itoa(s.pid()))
	assert.Equal(t, 0, s.wait())
	for _, pid := range pids {
		assert.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	}
	for _, verb := range [][]string{{"reload"}, {"upgrade"}, {"scale", "2"}, {"stop"}, {"status"}} {
		refused(t, command(t, append([]string{verb[0], "--store.path", s.store}, verb[1:]...)...), "no master runs", s.store)
	}
}

// A server that has its own master and embeds the store is sent no signals, of which it would die.
func TestControlLeavesOthersMastersAlone(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	argv, env := asRole("embedded", exportStore+"="+store)
	p := launch(t, exec.Command(argv[0]), env...)
	eventually(t, "the server", func() bool { return strings.Contains(p.stdout.String(), "serving") })
	for _, verb := range [][]string{{"reload"}, {"upgrade"}, {"scale", "2"}, {"stop"}} {
		r := command(t, append([]string{verb[0], "--store.path", store}, verb[1:]...)...)
		refused(t, r, strconv.Itoa(p.pid()), "supervises no workers")
	}
	r := command(t, "status", "--store.path", store)
	assert.Equal(t, 0, r.status, r.stderr)
	p.signal(syscall.SIGTERM)
	assert.Equal(t, 0, p.wait())
}

// What is asked for while something else takes its time waits for it, and whoever asked waits too.
func TestReloadWaitsForWhatIsBeingDone(t *testing.T) {
	s := startDemo(t, 2, "--linger", "200ms", "--graceful-timeout", "10m")
	hung := s.workers()[1]
	require.NoError(t, syscall.Kill(hung, syscall.SIGSTOP))
	s.signal(syscall.SIGTTOU)
	eventually(t, "the end of slot 1 to begin", func() bool { return len(s.workers()) == 1 })
	reload := launch(t, exec.Command(onescrape, "reload", "--store.path", s.store))
	eventually(t, "the reload to be seen", func() bool { return s.status().Queued == "reload" })
	assert.Contains(t, s.control(t, "status"), "waiting")
	require.NoError(t, syscall.Kill(hung, syscall.SIGCONT))
	assert.Equal(t, 0, reload.wait(), reload.stderr.String())
	assert.Contains(t, reload.stdout.String(), "1 workers replaced")
	assert.Empty(t, s.status().Queued)
}

// What is watched on a terminal shows each slot's steps.
func TestReloadShowsProgressOnATerminal(t *testing.T) {
	script := peer(t, "script", "bsdutils")
	s := startDemo(t, 2, quick...)
	out, err := exec.Command(script, "-qec", onescrape+" reload --store.path "+s.store, "/dev/null").CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, word := range []string{"slot 0: pid", "slot 1: pid", "ready", "reload done"} {
		assert.Contains(t, string(out), word)
	}
}

// Of two scales at once the later one wins, and the earlier one says so.
func TestTwoScalesAtOnce(t *testing.T) {
	long(t)
	s := startDemo(t, 4, "--linger", "200ms", "--graceful-timeout", "10m")
	hung := s.workers()[3]
	require.NoError(t, syscall.Kill(hung, syscall.SIGSTOP))
	scale := func(n string) *process {
		return launch(t, exec.Command(onescrape, "scale", "--store.path", s.store, n))
	}
	earlier := scale("2")
	eventually(t, "the earlier one to begin", func() bool { return s.status().Workers < 4 })
	later := scale("6")
	assert.Equal(t, 1, earlier.wait(), earlier.stdout.String())
	assert.Contains(t, earlier.stderr.String(), "superseded by scale 6")
	require.NoError(t, syscall.Kill(hung, syscall.SIGCONT))
	assert.Equal(t, 0, later.wait(), later.stderr.String())
	assert.Len(t, s.workers(), 6)

	// At the same time, so that either may be the later one.
	orders := map[int]*process{1: scale("1"), 8: scale("8")}
	won := 0
	for n, p := range orders {
		if p.wait() == 0 {
			assert.Zero(t, won, "both won")
			won = n
		}
	}
	require.NotZero(t, won)
	assert.Equal(t, won, s.status().Workers)
	assert.Contains(t, orders[9-won].stderr.String(), "superseded by scale "+strconv.Itoa(won))
}
