package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestForeignPidReuse has processes of client_python come and go in a pid namespace in which they get one of six pids,
// so that each goes on with the file of one before it, or would, if that is being compacted just then. Two compact, one
// of which is killed again and again, and a third only reads.
func TestForeignPidReuse(t *testing.T) {
	long(t)
	const hint = "/proc/sys/kernel/ns_last_pid"
	if _, err := os.Stat(hint); runtime.GOOS != "linux" || os.Geteuid() != 0 || err != nil {
		t.Skip("only root can choose pids, where there is " + hint)
	}
	script, err := filepath.Abs(filepath.Join("testdata", "peers", "storm.py"))
	require.NoError(t, err)
	dir := t.TempDir()
	interpreter := pythonInterpreter(t)
	// The compactors are in the namespace too, or every pid would be that of somebody else to them.
	addrs := []string{freeAddress(t), freeAddress(t), freeAddress(t)}
	shell := `
serve() { "$ONESCRAPE" serve --python-dir "$1" --web.listen-address "$2" $3 >/dev/null 2>&1; }
serve "$1" "$3" --compact &
(while :; do
	timeout -s KILL 0.7 "$ONESCRAPE" serve --python-dir "$1" --web.listen-address "$4" --compact >/dev/null 2>&1
done) &
serve "$1" "$5" &
exec "$PYTHON" "$SCRIPT" "$1" "$2"
`
	lives := strconv.Itoa(times(500))
	cmd := exec.Command("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", shell, "sh", dir, lives,
		addrs[0], addrs[1], addrs[2])
	hold, err := cmd.StdinPipe()
	require.NoError(t, err)
	storm := launch(t, cmd, "ONESCRAPE="+onescrape, "PYTHON="+interpreter, "SCRIPT="+script)
	defer storm.wait()
	defer hold.Close()
	var monitors []*monitor
	for _, addr := range []string{addrs[0], addrs[2]} {
		url := "http://" + addr + "/metrics"
		eventually(t, "the endpoint", func() bool { _, err := scrape(url); return err == nil })
		monitors = append(monitors, startMonitor(url, monitorOptions{Ignore: []string{"onescrape_"}}))
	}
	eventually(t, "the end of the storm", func() bool {
		select {
		case <-storm.exited:
			require.FailNow(t, "the storm was not to end yet")
		default:
		}
		return strings.HasSuffix(storm.stdout.String(), "\n")
	})
	total, err := strconv.ParseFloat(strings.TrimSpace(storm.stdout.String()), 64)
	require.NoError(t, err)
	for _, m := range monitors {
		m.stop(t)
	}
	scrapes := func() (all []families) {
		for _, addr := range []string{addrs[0], addrs[2]} {
			f := mustScrape(t, "http://"+addr+"/metrics")
			assert.Equal(t, total, f.sum("storm_total"))
			all = append(all, f)
		}
		return all
	}
	// Before compaction begins gauges of the living are those of all that have a file, and when it does every reader has to
	// let go of what it has mapped. From then on they are gone.
	eventually(t, "the gauges of the dead to go", func() bool {
		all := scrapes()
		return all[0].sum("storm_alive")+all[1].sum("storm_alive") == 0
	})
	eventually(t, "compaction", func() bool {
		for _, f := range scrapes() {
			assert.Zero(t, f.sum("storm_alive"))
		}
		aside, err := filepath.Glob(filepath.Join(dir, ".onescrape", "aside-*"))
		require.NoError(t, err)
		return len(aside)+len(dbFiles(t, dir)) == 0
	})
	scrapes()
	t.Logf("%s processes have counted %v", lives, total)
}
