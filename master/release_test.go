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

// A deployment during a rollout ends it: the later slots would get what nobody has checked.
func TestSecondDeploymentDuringARollout(t *testing.T) {
	long(t)
	for name, deploy := range map[string]func(m *testMaster){
		"another file": func(m *testMaster) {
			m.scripted("second", ":")
			m.install("second")
		},
		"the same file written anew": func(m *testMaster) {
			text, err := os.ReadFile(m.program)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(m.program, text, 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := startMaster(t, options{"Workers": 3, "ReadySettle": time.Second, "Linger": time.Millisecond})
			before := m.status()
			m.scripted("first", ":")
			m.install("first")
			m.signal(syscall.SIGHUP)
			m.until("one worker is replaced", func(s Status) bool { return s.Rollout != nil && s.Rollout.Done == 1 })
			deploy(m)
			s := m.until("the rollout is over", func(s Status) bool { return s.Rollout.State != running })
			assert.Equal(t, abandoned, s.Rollout.State)
			assert.Contains(t, s.Rollout.Error, "another release was installed during the rollout")
			assert.Equal(t, before.Slots[2].PID, s.Slots[2].PID)

			// Status and page say who runs what.
			require.Len(t, s.Releases, 2)
			assert.Equal(t, s.Releases[1].Release, s.Slots[0].Release)
			assert.Equal(t, s.Releases[0].Release, s.Slots[2].Release)
			assert.Equal(t, m.program, s.Releases[1].Program)
			page, _ := m.get("http://" + s.Metrics + "/")
			assert.Contains(t, page, fmt.Sprintf("Release %d: <code>%s</code>", s.Slots[0].Release, m.program))

			// Once more, and all of it is of one release, which an upgrade knows again.
			assert.Equal(t, done, m.roll(syscall.SIGHUP).State)
			s = m.until("one release is left", func(s Status) bool { return len(s.Releases) == 1 })
			assert.Equal(t, done, m.roll(syscall.SIGUSR2).State)
			assert.Equal(t, s.Releases[0].Release, m.status().Slots[0].Release)
		})
	}
}

// deployment is a directory with releases, each of which has a command of its own, and a link to the current one.
type deployment struct {
	t    *testing.T
	base string
}

func newDeployment(t *testing.T) *deployment {
	base, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	return &deployment{t, base}
}

func (d *deployment) link() string { return filepath.Join(d.base, "current") }

func (d *deployment) dir(name string) string { return filepath.Join(d.base, "releases", name) }

// release makes a release whose workers behave so.
func (d *deployment) release(name, behavior string) {
	d.t.Helper()
	self, err := os.Executable()
	require.NoError(d.t, err)
	require.NoError(d.t, os.MkdirAll(d.dir(name), 0o755))
	require.NoError(d.t, os.WriteFile(filepath.Join(d.dir(name), "behavior"), []byte(behavior), 0o644))
	require.NoError(d.t, os.WriteFile(filepath.Join(d.dir(name), "server"),
		[]byte(fmt.Sprintf("#!/bin/sh\nexport %s=\"$(pwd -P)/behavior\"\nexec %q as-command\n", behaviorEnv, self)), 0o755))
}

// deploy leads the link to a release.
func (d *deployment) deploy(name string) {
	d.t.Helper()
	require.NoError(d.t, os.Symlink(filepath.Join("releases", name), d.link()+"-next"))
	require.NoError(d.t, os.Rename(d.link()+"-next", d.link()))
}

// dirs returns where the slots' workers were started, by slot, below the directory of the releases.
func (d *deployment) dirs(s Status) (out []string) {
	for _, sl := range s.Slots {
		for _, r := range s.Releases {
			if r.Release == sl.Release {
				out = append(out, strings.TrimPrefix(r.Dir, d.dir("")+"/"))
			}
		}
	}
	return out
}

// killed kills the worker of a slot and waits for the next one.
func (m *testMaster) killed(slot int) {
	m.t.Helper()
	pid := m.status().Slots[slot].PID
	require.NoError(m.t, syscall.Kill(pid, syscall.SIGKILL))
	m.until("another worker is ready", func(s Status) bool { return s.Slots[slot].PID != pid && s.Slots[slot].State == ready })
}

// A deployment by a link reaches all workers of a rollout, and no worker before.
func TestDeploymentByALink(t *testing.T) {
	long(t)
	d := newDeployment(t)
	d.release("1", "ok")
	d.deploy("1")
	m := startMaster(t, options{"Workers": 2, "Chdir": d.link(), "Command": []string{"./server"},
		"ReadySettle": time.Second, "Linger": time.Millisecond})
	works := func(name string) {
		t.Helper()
		body, _ := m.get(m.url("/env"))
		assert.Contains(t, body, `"PWD=`+d.dir(name)+`"`)
	}
	works("1")
	d.release("2", "ok")
	d.deploy("2")
	m.killed(0)
	assert.Equal(t, []string{"1", "1"}, d.dirs(m.status()), "there was no rollout yet")

	assert.Equal(t, done, m.roll(syscall.SIGHUP).State)
	assert.Equal(t, []string{"2", "2"}, d.dirs(m.status()))
	works("2")
	assert.Equal(t, done, m.roll(syscall.SIGUSR2).State, "an upgrade")
	m.killed(1)
	assert.Equal(t, []string{"2", "2"}, d.dirs(m.status()))

	// The workers of a release that breaks are followed by those of the last one that was good.
	d.release("3", "die 1500ms")
	d.deploy("3")
	assert.Equal(t, abandoned, m.roll(syscall.SIGHUP).State)
	s := m.until("all are ready", func(s Status) bool { return s.Slots[0].State == ready && s.Slots[1].State == ready })
	assert.Equal(t, []string{"2", "2"}, d.dirs(s))
	works("2")

	// A deployment that removes the directory of the old workers.
	d.release("4", "ok")
	d.deploy("4")
	require.NoError(t, os.RemoveAll(d.dir("2")))
	m.killed(0)
	m.logged("the directory of the workers is gone")
	assert.Equal(t, "4", d.dirs(m.status())[0])
	require.NoError(t, os.RemoveAll(d.dir("4")))
	r := m.roll(syscall.SIGHUP)
	assert.Equal(t, abandoned, r.State)
	assert.Contains(t, r.Error, "the workers' directory")
}

// As root, whoever can switch the link decides what runs as root.
func TestDeploymentByALinkThatOthersCanSwitch(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only a master of root refuses such a link")
	}
	for name, spoil := range map[string]func(dir string) error{
		"any user":     func(dir string) error { return os.Chmod(dir, 0o777|os.ModeSticky) },
		"a group":      func(dir string) error { return os.Chmod(dir, 0o775) },
		"another user": func(dir string) error { return os.Chown(dir, 65534, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDeployment(t)
			d.release("1", "ok")
			d.deploy("1")
			o := options{"Workers": 1, "Chdir": d.link(), "Command": []string{"./server"}, "ReadySettle": time.Millisecond}
			m := startMaster(t, o)
			require.NoError(t, spoil(d.base))
			for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR2} {
				r := m.roll(sig)
				assert.Equal(t, abandoned, r.State)
				assert.Contains(t, r.Error, "is a link in a directory that others than root can write to")
			}
			start := launchMaster(t, o)
			assert.Equal(t, 1, start.finished())
			start.logged("is a link in a directory that others than root can write to")
		})
	}
}

func TestStartInALinkedDirectory(t *testing.T) {
	d := newDeployment(t)
	d.release("1", "ok")
	d.deploy("1")
	const warning = "the working directory was reached by a link"
	t.Chdir(d.link())
	m := startMaster(t, options{"Workers": 1})
	m.logged(warning)
	m = startMaster(t, options{"Workers": 1, "Chdir": d.link()})
	assert.NotContains(t, m.log.String(), warning)
	t.Chdir(d.dir("1"))
	m = startMaster(t, options{"Workers": 1})
	assert.NotContains(t, m.log.String(), warning)
}
