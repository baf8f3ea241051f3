package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// fillUp leaves no space on the file system of a directory until the file that it returns is removed.
func fillUp(t *testing.T, dir string) (ballast string) {
	t.Helper()
	ballast = filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	require.NoError(t, err)
	defer f.Close()
	page := bytes.Repeat([]byte{1}, 4096)
	for err == nil {
		_, err = f.Write(page)
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	return ballast
}

// rolled waits until a rollout with this number is over, and returns its state and error.
func (s *server) rolled(id int) (state, text string) {
	s.t.Helper()
	eventually(s.t, "the end of the rollout", func() bool {
		r := s.status().Rollout
		if r == nil || r.ID != id || r.State == "running" {
			return false
		}
		state, text = r.State, r.Error
		return true
	})
	return state, text
}

// startOnFull starts two workers with 100 series each.
func startOnFull(t *testing.T, store string) *server {
	t.Helper()
	argv, env := asRole("series", seriesCount+"=100")
	s := newServer(t)
	s.store = store
	s.start(t, env, "run", 2, []string{"--ready-settle", "0s"}, append([]string{"--"}, argv...)...)
	s.waitReady()
	return s
}

// A master that starts where there is no space serves, tells why it cannot be found, and takes the store when there is space.
func TestStartOnAFullFileSystem(t *testing.T) {
	long(t)
	fs := mountSmall(t, "2m")
	ballast := fillUp(t, fs)
	s := startOnFull(t, filepath.Join(fs, "store"))
	assert.Equal(t, 2.0, mustScrape(t, s.metrics).sum("onescrape_workers_without_store"))
	assert.Contains(t, s.status().StoreTrouble, "no space")
	assert.Contains(t, s.stderr.String(), "the service runs without it")

	for _, args := range [][]string{{"reload"}, {"upgrade"}, {"stop"}, {"status"}, {"scale", "1"}} {
		args = append(args, "--store.path", s.store)
		refused(t, command(t, args...), "no master runs", s.store, "the file system is full", "kill -HUP")
	}
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGHUP))
	state, text := s.rolled(1)
	assert.Equal(t, "done", state, text)
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGUSR2))
	state, text = s.rolled(2)
	assert.Equal(t, "abandoned", state)
	assert.Contains(t, text, "no space")
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTTIN))
	eventually(t, "a third worker", func() bool { return len(s.workers()) == 3 })
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTTOU))
	eventually(t, "two workers", func() bool { return len(s.status().Slots) == 2 })

	require.NoError(t, os.Remove(ballast))
	eventually(t, "the store", func() bool { return s.status().StoreTrouble == "" })
	assert.Contains(t, s.control(t, "reload"), "2 workers replaced")
	f := mustScrape(t, s.metrics)
	assert.Zero(t, f.sum("onescrape_workers_without_store"))
	assert.Equal(t, 200.0, f.sum("http_requests_total"))
	assert.Contains(t, s.control(t, "upgrade"), "2 workers replaced")
	s.control(t, "stop")
	assert.Equal(t, 0, s.wait())
}

// Without space for its status alone, the master has the store, and commands find it but not what it does.
func TestStartWithoutSpaceForTheStatus(t *testing.T) {
	long(t)
	fs := mountSmall(t, "2m")
	store := filepath.Join(fs, "store")
	d, err := shmstore.OpenDir(store, shmstore.DirOptions{Create: true})
	require.NoError(t, err)
	require.NoError(t, d.Close())
	ballast := fillUp(t, fs)
	s := startOnFull(t, store)
	assert.Equal(t, 2.0, mustScrape(t, s.metrics).sum("onescrape_workers_without_store"))
	refused(t, command(t, "reload", "--store.path", store), "the file system of "+store+" is full", "kill -HUP")
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGHUP))
	state, text := s.rolled(1)
	assert.Equal(t, "done", state, text)
	assert.Equal(t, 1, strings.Count(s.stderr.String(), "does not take the master's status"))

	require.NoError(t, os.Remove(ballast))
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGHUP))
	state, text = s.rolled(2)
	assert.Equal(t, "done", state, text)
	assert.Contains(t, s.control(t, "reload"), "2 workers replaced")
	assert.Equal(t, 400.0, mustScrape(t, s.metrics).sum("http_requests_total"), "of both rollouts that had space")
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	assert.Equal(t, 0, s.wait())
}

func TestStopOnAFullFileSystem(t *testing.T) {
	fs := mountSmall(t, "1m")
	fillUp(t, fs)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s := startOnFull(t, filepath.Join(fs, "store"))
		require.NoError(t, s.cmd.Process.Signal(sig))
		assert.Equal(t, 0, s.wait())
	}
}
