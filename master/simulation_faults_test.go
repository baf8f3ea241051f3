package master

import (
	"cmp"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mended are faults that were found once, each as what takes its fix back.
var mended = []struct{ name, file, with, without string }{
	{"deadlines are not put off after a pause", "pauses.go", "\ts.shift(late)\n", ""},
	{"a worker is killed while READY=1 is on its way", "deadlines.go",
		"return p.end.handled || p.look.answered == p.look.asked", "return true"},
	{"a queue waits behind a crash loop", "pacing.go", "if s.sockets.Queued(sl.number) {", "if false {"},
	{"a shortage before any worker was ready ends the master", "slot.go", "\t\twait := s.failed(sl)\n",
		"\t\twait := s.failed(sl)\n\t\ts.startup.refused = err\n"},
	{"a socket is closed while another process has it", "internal/sockets/closing.go", "case len(held[inode]) > 0:", "case len(held[inode]) > 1000:"},
	{"steering that failed is not tried again", "internal/sockets/steering.go", "why, off, s.steering.known = err.Error(), true, false",
		"why, off = err.Error(), true"},
	{"sockets of others are not looked for", "internal/sockets/strangers.go", "changed, err := g.Compare()",
		"changed, err := false, error(nil)"},
	{"an unknown order of the sockets is not probed", "internal/reuseport/compare_linux.go",
		"if !doubt || g.kernel.Now().Before(g.probeAt) {", "if true {"},
	{"a rollout goes on over a late failure of its release", "rollout.go", "\tif p.erred() {\n\t\tr.broken =", "\tif false {\n\t\tr.broken ="},
	{"a hung worker leaves connections in a slot that is given up", "scale.go", "if r.rescues < mostRescues {", "if false {"},
	{"a retirement does not look at handshakes and queues", "internal/sockets/exclusion.go", "return e.sockets.Queued(e.slot) ||",
		"return false &&"},
	{"a recycling that cannot start a successor does not wait", "replacement.go", "p = r.slot.cur // no", "// no"},
	{"an upgrade forgets that a worker was ready", "handover.go", "if h.AnyReady || h.Speaks {", "if false {"},
	{"an upgrade forgets slots that are being closed", "handover.go", "Parked: s.sockets.Closing(),", "Parked: nil,"},
	{"an upgrade goes by the wall clock", "pauses.go", "*t = now.Add(d)\n", "_ = d\n"},
	{"a child of other code of this program is reaped at once", "internal/remnants/orphans.go", "if now.Sub(since) >= orphanAge {", "if true {"},
	{"a new address is steered to old workers", "pacing.go", "sl.accepts() && sl.cur.Epoch >= since", "sl.accepts()"},
}

// Each of the faults is found again when its fix is taken back.
func TestSimulationFindsFaults(t *testing.T) {
	long(t) // it builds the package for each fault
	events := regexp.MustCompile(`after (\d+) events: .*`)
	history := regexp.MustCompile(`testdata\S*\.history`)
	documented, err := os.ReadFile(filepath.Join("..", "docs", "testing.md"))
	require.NoError(t, err)
	for _, fault := range mended {
		t.Run(fault.name, func(t *testing.T) {
			path, err := filepath.Abs(fault.file)
			require.NoError(t, err)
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, 1, strings.Count(string(text), fault.with), "%q in %s", fault.with, fault.file)
			changed := filepath.Join(t.TempDir(), "changed.go")
			require.NoError(t, os.WriteFile(changed, []byte(strings.Replace(string(text), fault.with, fault.without, 1)), 0o600))
			overlay := filepath.Join(t.TempDir(), "overlay.json")
			list, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(overlay, list, 0o600))
			cmd := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-overlay", overlay, "-count=1", "-failfast", "-run", "TestSimulation$|TestShrunkHistories", ".")
			cmd.Env = append(os.Environ(), "ONESCRAPE_SIMULATION=200 5000", "ONESCRAPE_SIMULATION_SHRINK=off")
			out, err := cmd.CombinedOutput()
			require.Error(t, err, "it is not found")
			found := cmp.Or(events.FindString(string(out)), history.FindString(string(out)))
			assert.NotEmpty(t, found, "%s", out)
			t.Log(found)
			if n := events.FindStringSubmatch(found); n != nil {
				numbers := strings.ReplaceAll(string(documented), ",", "")
				assert.Contains(t, numbers, "| "+n[1]+" |", "docs/testing.md says after how many events it is found")
			}
		})
	}
}
