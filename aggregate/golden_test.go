package aggregate

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// goldenDir holds a store that commit d6a25d7 has folded, and what that commit exposes of it. To make it anew, copy this file
// into a checkout of that commit, with plain and nativeText as they are here, and run its test with -make-golden.
const goldenDir = "testdata/d6a25d7"

var makeGolden = flag.Bool("make-golden", false, "write testdata anew, in the format of this program")

// goldenExposition is what is exposed of the golden store.
type goldenExposition struct {
	Before, After []string                     // a process more is folded
	Exemplars     map[string]map[string]string // before
}

// goldenActions are those of one process: some series of each kind, of which some are its own.
func goldenActions(n int) (actions []action) {
	for i, f := range everyKind() {
		for _, l := range []string{"shared", "own-" + string(rune('a'+n)), ""} {
			values := []string{l}
			if f.QuantileLines {
				values = append(values, ".5")
			}
			a := action{Do: "observe", Family: f, Values: values, V: float64(n*10+i) + 0.25, At: uint64(n)}
			switch f.Type {
			case shmstore.CounterType:
				a.Do = "add"
			case shmstore.GaugeType:
				a.Do = "set"
			}
			actions = append(actions, a)
			if f.ExemplarSlots() > 0 && l == "shared" {
				e := exemplarOf(f, float64(n), uint64(n), "trace-"+string(rune('a'+n)))
				e.Values = values
				actions = append(actions, e)
			}
		}
	}
	return append(actions, action{Do: "add", Family: counterFamily("big_total"), V: 1 << 60}, ready)
}

// goldenStore makes the store: two generations of the archive, and the file of a process that lived meanwhile and had
// released series, as they are after a restart of the system.
func goldenStore(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	leave(t, dir, 0, goldenActions(1)...)
	mustFold(t, s)
	p := startLocal(t, dir, 1)
	churned := counterFamily("churned_total", "l")
	for _, l := range []string{"x", "y", "z"} {
		p.do(action{Do: "add", Family: churned, Values: []string{l}, V: 5})
	}
	p.do(goldenActions(2)...)
	leave(t, dir, 0, action{Do: "add", Family: churned, Values: []string{"x"}, V: 6})
	p.do(action{Do: "delete", Family: churned, Values: []string{"x"}}, action{Do: "delete", Family: churned, Values: []string{"y"}},
		action{Do: "release"})
	leave(t, dir, 0, goldenActions(3)...)
	mustFold(t, s)
	to := filepath.Join(goldenDir, "store")
	require.NoError(t, os.RemoveAll(goldenDir))
	require.NoError(t, os.MkdirAll(to, 0o755))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		if sum := map[bool]int{true: 68, false: 84}[strings.HasPrefix(e.Name(), "archive")]; e.Name() != "lock" {
			clear(b[32:48])
			binary.NativeEndian.PutUint32(b[sum:], crc32.Checksum(b[:sum], castagnoli))
		}
		if strings.HasPrefix(e.Name(), "archive") {
			b = b[:128+binary.NativeEndian.Uint64(b[56:])]
		}
		require.NoError(t, os.WriteFile(filepath.Join(to, e.Name()), b, 0o644))
	}
	dir = copyGolden(t)
	s = openStore(t, dir, Options{})
	golden := goldenExposition{Before: users(t, s), Exemplars: goldenExemplars(t, s)}
	leave(t, dir, 2, goldenActions(4)...)
	mustFold(t, s)
	golden.After = users(t, s)
	b, err := json.MarshalIndent(golden, "", "\t")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(goldenDir, "exposition.json"), append(b, '\n'), 0o644))
}

func goldenExemplars(t *testing.T, s *Store) map[string]map[string]string {
	all := map[string]map[string]string{}
	for _, name := range []string{"c_total", "h", "both"} {
		all[name] = traces(t, s, name)
	}
	return all
}

func copyGolden(t *testing.T) string {
	dir := filepath.Join(filepath.Dir(newDir(t)), "golden")
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join(goldenDir, "store"))))
	require.NoError(t, os.Chmod(dir, 0o700))
	return dir
}

func TestArchiveThatAnOlderProgramWroteIsReadAndFolded(t *testing.T) {
	if *makeGolden {
		goldenStore(t)
	}
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the numbers in it are little-endian")
	}
	b, err := os.ReadFile(filepath.Join(goldenDir, "exposition.json"))
	require.NoError(t, err)
	var golden goldenExposition
	require.NoError(t, json.Unmarshal(b, &golden))
	dir := copyGolden(t)
	s, folding := openStore(t, dir, Options{ReadOnly: true}), openStore(t, dir, Options{})
	assert.Equal(t, golden.Before, users(t, s))
	assert.Equal(t, golden.Exemplars, goldenExemplars(t, s))
	leave(t, dir, 2, goldenActions(4)...)
	assert.Equal(t, golden.After, users(t, s))
	mustFold(t, folding)
	assert.Equal(t, golden.After, users(t, s), "folded")
	assert.Equal(t, golden.After, users(t, openStore(t, dir, Options{})), "read anew")
	assert.Zero(t, errorCounts(t, s)["corrupt"])
}
