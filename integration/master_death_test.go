package integration

import (
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A master killed with SIGKILL at random moments, and a new one on the same store and port, 20 times.
func TestMasterKilled(t *testing.T) {
	long(t)
	s := newServer(t)
	start := func() {
		s.start(t, nil, "demo", 2, quick)
		s.waitReady()
	}
	start()
	reader := startReader(t, s.store)
	own := []string{"onescrape_"} // a process's own counters end with it
	m := startMonitor(reader, monitorOptions{Ignore: own})
	endpoint := startMonitor(s.metrics, monitorOptions{Ignore: own, Errors: true})
	load := startLoad(s.app, 8, false)
	rng := rand.New(rand.NewPCG(3, 3))
	for range times(20) {
		// What the master is doing when it is killed: a roll, an upgrade, a change of scale, or nothing.
		old := s.workers()
		if sig := []syscall.Signal{0, syscall.SIGHUP, syscall.SIGUSR2, syscall.SIGTTIN}[rng.IntN(4)]; sig != 0 {
			s.signal(sig)
		}
		time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond) // the random moment
		require.NoError(t, s.cmd.Process.Kill())
		s.wait()
		start()
		eventually(t, "the end of the old workers", func() bool {
			for _, pid := range old {
				if syscall.Kill(pid, 0) == nil {
					return false
				}
			}
			return true
		})
	}
	load.stop()
	m.stop(t)
	endpoint.stop(t)
	agree(t, s, load)
	assert.Positive(t, load.answered.Load())
	v, r := inspect(t, s.store)
	assert.Equal(t, 0, r.status, r.stderr)
	live := 0
	for _, f := range v.Files {
		if f.Live {
			live++
		}
	}
	assert.Equal(t, 2, live, "workers of a dead master are left")
}

// Everything that can be sent, over 100 upgrades.
func TestSignalStorm(t *testing.T) {
	long(t)
	s := startDemo(t, 2, "--linger", "20ms", "--graceful-timeout", "5s")
	m := startMonitor(s.metrics, monitorOptions{})
	load := startLoad(s.app, 4, false)
	rng := rand.New(rand.NewPCG(3, 4))
	// A USR2 that comes while another one waits is one with it, so what counts is what the master has done.
	upgrades := func() int { return strings.Count(s.stderr.String(), `msg="master upgraded"`) }
	// More TTOU than TTIN keep the workers few, whose replacement takes most of the time.
	signals := []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGTTOU}
	done, end := 0, time.Now().Add(deadline)
	for done < times(100) {
		if n := upgrades(); n > done {
			done, end = n, time.Now().Add(deadline)
		}
		require.True(t, time.Now().Before(end), "no upgrade after %d", done)
		sig := signals[rng.IntN(len(signals))]
		require.NoError(t, s.cmd.Process.Signal(sig), "the master died")
		time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond) // a part of the storm
	}
	load.stop()
	m.stop(t)
	agree(t, s, load)
	assert.Zero(t, load.failed.Load(), "%v", load.failures())
	s.control(t, "reload")
	st := s.status()
	assert.Equal(t, s.pid(), st.PID)
	assert.True(t, st.Ready)
	eventually(t, "all workers", func() bool { return len(s.workers()) == st.Workers })
}

// As pid 1 of a container: orphans are reaped, upgrades and the stop work.
func TestPID1(t *testing.T) {
	long(t)
	unshare := peer(t, "unshare", "util-linux")
	if out, err := exec.Command(unshare, "--pid", "--fork", "--mount-proc", "true").CombinedOutput(); err != nil {
		t.Skipf("no pid namespace can be made here (%v: %s)", err, out)
	}
	argv, env := asRole("orphan")
	s := newServer(t)
	s.process = launch(t, exec.Command(unshare, "--pid", "--fork", "--mount-proc", "--kill-child", onescrape, "run",
		"--workers", "2", "--listen", s.app, "--web.listen-address", strings.TrimPrefix(s.base, "http://"),
		"--store.path", s.store, "--ready-settle", "0s", "--", argv[0]), env...)
	s.waitReady()
	assert.Equal(t, 1, s.status().PID)
	host := child(t, s.pid())
	upgraded := func(n int) bool {
		r := s.status().Rollout
		return r != nil && r.ID == n && r.State == "done"
	}
	eventually(t, "the orphans to be reaped", func() bool { return !zombies(t, host) })
	require.NoError(t, syscall.Kill(host, syscall.SIGUSR2))
	eventually(t, "the upgrade", func() bool { return upgraded(1) })
	eventually(t, "the orphans to be reaped", func() bool { return !zombies(t, host) })
	assert.Equal(t, 1, s.status().PID)
	require.NoError(t, syscall.Kill(host, syscall.SIGTERM))
	assert.Equal(t, 0, s.wait())
}

// child is the one child of a process.
func child(t *testing.T, pid int) int {
	t.Helper()
	out, err := exec.Command(peer(t, "ps", "procps"), "-o", "pid=", "--ppid", strconv.Itoa(pid)).Output()
	require.NoError(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	require.NoError(t, err)
	return n
}

// zombies reports whether a process has children that it did not wait for, or ones that are not its workers yet to end.
func zombies(t *testing.T, pid int) bool {
	t.Helper()
	out, err := exec.Command(peer(t, "ps", "procps"), "-o", "stat=,comm=", "--ppid", strconv.Itoa(pid)).Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Z") || strings.Contains(line, "sleep") {
			return true
		}
	}
	return false
}
