package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/internal/older"
)

// newMetrics are the master's own counters that the earlier release does not have: they are absent while it runs.
var newMetrics = []string{"onescrape_log_lines_dropped_total", "onescrape_store_moved_total"}

// release is one version of the command.
type release struct {
	name, path string
}

// bothReleases are the one before and this one.
func bothReleases(t *testing.T) (before, now release) {
	tree := older.Tree(t, "upgrades from and to it are not tested")
	return release{"before", older.Build(t, tree, "./cmd/onescrape")}, release{"now", onescrape}
}

// deployment is a server whose program is a link that is switched from one release to another.
type deployment struct {
	*watched
	link string
}

// install switches the link.
func (d *deployment) install(t *testing.T, r release) {
	t.Helper()
	require.NoError(t, os.Symlink(r.path, d.link+".new"))
	require.NoError(t, os.Rename(d.link+".new", d.link))
}

// deploy starts a master of a release, under load and with monitors, which allow the metrics of this release to go.
func deploy(t *testing.T, r release, verb string, argv []string, env ...string) *deployment {
	t.Helper()
	d := &deployment{watched: &watched{server: newServer(t)}, link: filepath.Join(t.TempDir(), "onescrape")}
	d.install(t, r)
	flags := quick
	if verb == "run" {
		flags = append(slices.Clone(quick), "--ready-settle", "0s")
	}
	d.startBinary(t, d.link, env, verb, 3, flags, argv...)
	d.waitReady()
	second := startReader(t, d.store)
	d.monitors = []*monitor{startMonitor(d.metrics, monitorOptions{Ignore: newMetrics}), startMonitor(second, monitorOptions{})}
	d.loads = []*load{startLoad(d.app, 4, false), startLoad(d.app, 4, true)}
	return d
}

// upgrade replaces the master by that of another release, asked for by the command of a release.
func (d *deployment) upgrade(t *testing.T, to, by release) {
	t.Helper()
	before := d.status()
	answered := d.loads[0].answered.Load()
	eventually(t, "requests in between", func() bool { return d.loads[0].answered.Load() > answered+20 })
	d.install(t, to)
	p := launch(t, exec.Command(by.path, "upgrade", "--store.path", d.store))
	require.Equal(t, 0, p.wait(), "upgrade by the command of %s: %s%s", by.name, p.stdout.String(), p.stderr.String())
	assert.Contains(t, p.stdout.String(), "3 workers replaced")

	st := d.status()
	assert.Equal(t, before.PID, st.PID)
	assert.Equal(t, before.Started.UnixNano(), st.Started.UnixNano())
	assert.Equal(t, before.Addresses, st.Addresses)
	assert.True(t, st.Ready)
	assert.Equal(t, "on", st.Steering)
	assert.Equal(t, 3, st.Workers)
	require.NotNil(t, st.Rollout)
	assert.Equal(t, "done", st.Rollout.State)
	assert.Equal(t, "upgrade", st.Rollout.Kind)
	if before.Rollout != nil {
		assert.Equal(t, before.Rollout.ID+1, st.Rollout.ID)
	}
	for _, pid := range pids(before.Slots) {
		assert.NotContains(t, pids(st.Slots), pid)
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", d.pid()))
	require.NoError(t, err)
	want, err := filepath.EvalSymlinks(to.path)
	require.NoError(t, err)
	assert.Equal(t, want, exe, "the master's program")
	eventually(t, "no process but the workers", func() bool {
		return slices.Equal(slices.Sorted(slices.Values(pids(d.status().Slots))), children(t, d.pid()))
	})
	assert.False(t, zombies(t, d.pid()))
}

// children are the pids of a process's children, zombies among them, in order.
func children(t *testing.T, pid int) []int {
	t.Helper()
	out, err := exec.Command(peer(t, "ps", "procps"), "-o", "pid=", "--ppid", fmt.Sprint(pid)).Output()
	require.NoError(t, err)
	var kids []int
	for _, field := range bytes.Fields(out) {
		var kid int
		_, err := fmt.Sscan(string(field), &kid)
		require.NoError(t, err)
		kids = append(kids, kid)
	}
	return slices.Sorted(slices.Values(kids))
}

// ended holds that a deployment lost nothing and killed nobody, and that it can be stopped by the command of a release.
func (d *deployment) ended(t *testing.T, by release) {
	t.Helper()
	d.noneFailed(t)
	p := launch(t, exec.Command(by.path, "stop", "--store.path", d.store))
	assert.Equal(t, 0, p.wait(), p.stderr.String())
	assert.Equal(t, 0, d.wait())
	assert.NotContains(t, d.stderr.String(), "killed")
	assert.NotContains(t, d.stderr.String(), "level=ERROR")
}

// From the release before to this one, back, and here again, under load.
func TestUpgradeFromAndToTheReleaseBefore(t *testing.T) {
	before, now := bothReleases(t)
	argv, env := asRole("web")
	for _, c := range []struct {
		verb string
		argv []string
		env  []string
		// counter is what counts the requests.
		counter string
	}{
		{"demo", nil, nil, "demo_requests_total"},
		{"run", append([]string{"--"}, argv...), env, "web_requests_total"},
	} {
		t.Run(c.verb, func(t *testing.T) {
			d := deploy(t, before, c.verb, c.argv, c.env...)
			d.counter = c.counter
			d.upgrade(t, now, before)
			d.upgrade(t, before, now)
			d.upgrade(t, now, now)
			d.upgrade(t, before, before)
			d.upgrade(t, now, before)
			d.ended(t, before)
		})
	}
}
