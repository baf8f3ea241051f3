package aggregate

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/integration/older"
	"github.com/onescrape/onescrape/shmstore"
)

// olderProgram folds a store and then prints it.
const olderProgram = `package main

import (
	"context"
	"fmt"
	"os"

	"github.com/onescrape/onescrape/aggregate"
)

func main() {
	s, err := aggregate.Open(os.Args[1], aggregate.Options{})
	for n := 1; err == nil && len(os.Args) > 2 && n > 0; {
		n, err = s.Fold(context.Background())
	}
	if err == nil {
		err = s.WriteText(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
`

// buildOlder builds olderProgram in the tree of the release before archives had a table of what they have taken.
func buildOlder(t *testing.T) string {
	tree := older.Tree(t, "the golden archives are tested alone")
	dir := filepath.Join(tree, "cmd", "older")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(olderProgram), 0o644))
	return older.Build(t, tree, "./cmd/older")
}

// runOlder returns the samples that the older program exposes, after it has folded if it is to.
func runOlder(t *testing.T, program, dir string, fold bool) string {
	t.Helper()
	args := []string{dir}
	if fold {
		args = append(args, "fold")
	}
	var stderr bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", stderr.String())
	assert.Empty(t, stderr.String(), "it finds nothing wrong")
	lines := slices.DeleteFunc(slices.Collect(strings.Lines(string(out))), func(line string) bool {
		return strings.HasPrefix(line, "#") || strings.HasPrefix(line, "onescrape_")
	})
	return strings.Join(lines, "")
}

// A store is folded by this program and by the one before in turn, while a worker of this program makes and deletes series: an
// upgrade, a rollback and another upgrade.
func TestOlderProgramReadsAndFoldsTheArchive(t *testing.T) {
	program := buildOlder(t)
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	p := startLocal(t, dir, 7)
	churned := counterFamily("churned_total", "l")
	churn := func(value string) {
		a := action{Do: "add", Family: churned, Values: []string{value}, V: 1}
		leave(t, dir, 8, a)
		p.do(a)
		a.Do = "delete"
		p.do(a, action{Do: "release"})
	}
	d, err := shmstore.OpenDir(dir, shmstore.DirOptions{})
	require.NoError(t, err)
	defer d.Close()
	records := func() int {
		r, err := d.Open(p.w.Name())
		require.NoError(t, err)
		defer r.Close()
		require.NoError(t, r.Refresh())
		return len(r.Series())
	}
	// The older program sorts what one family's series have in common otherwise.
	same := func(want, got, what string) {
		t.Helper()
		sorted := func(s string) []string { return slices.Sorted(strings.Lines(s)) }
		assert.Equal(t, sorted(want), sorted(got), what)
	}
	for round := 1; round <= 6; round++ {
		leave(t, dir, round, goldenActions(round)...)
		churn("r" + string(rune('0'+round)))
		want := text(t, s)
		if round%2 == 1 {
			same(want, runOlder(t, program, dir, true), "folded by the older program")
		} else {
			mustFold(t, s)
		}
		same(want, text(t, s), "after a fold")
		same(want, runOlder(t, program, dir, false), "the older program")
		same(want, text(t, openStore(t, dir, Options{ReadOnly: true})), "read anew")
	}
	// What the older program took, the table of the last archive says too.
	have := records()
	require.Eventually(t, func() bool {
		p.do(action{Do: "add", Family: churned, Values: []string{"again"}, V: 1})
		p.do(action{Do: "delete", Family: churned, Values: []string{"again"}})
		now := records()
		grown := now > have
		have = now
		return !grown
	}, time.Minute, 100*time.Millisecond)
	assert.Zero(t, errorCounts(t, s)["corrupt"])
}
