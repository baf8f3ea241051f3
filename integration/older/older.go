// Package older builds programs of an earlier release from the history of this repository, for tests of upgrades and rollbacks.
package older

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"testing"
)

// Commit is the earlier release: the one that a store, a running master and a rollback must work with.
const Commit = "d6a25d7"

// Tree unpacks the source of the earlier release and returns its directory, which is removed at the end of the test. The test
// is skipped in short mode, and where this is no clone that has the commit. why says what is then not tested.
func Tree(t *testing.T, why string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("it builds another version of this module")
	}
	root, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		t.Skipf("this is no clone of the repository (%v): %s", err, why)
	}
	var tar bytes.Buffer
	archive := exec.Command("git", "archive", Commit)
	archive.Dir, archive.Stdout = string(bytes.TrimSpace(root)), &tar
	if err := archive.Run(); err != nil {
		t.Skipf("this clone has no commit %s (%v): %s", Commit, err, why)
	}
	tree := t.TempDir()
	unpack := exec.Command("tar", "-xf", "-")
	unpack.Dir, unpack.Stdin = tree, &tar
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("unpack commit %s: %v\n%s", Commit, err, out)
	}
	return tree
}

// Build builds a package of an unpacked tree and returns the program's path.
func Build(t *testing.T, tree, pkg string) string {
	t.Helper()
	program := filepath.Join(tree, "older-"+filepath.Base(pkg))
	build := exec.Command("go", "build", "-o", program, pkg)
	build.Dir = tree
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build %s of commit %s: %v\n%s", pkg, Commit, err, out)
	}
	return program
}
