package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// onescrape is the path of the command that the tests start, built once for all of them.
var onescrape string

// role names, in the environment, what this test binary does instead of testing: it is every worker that the tests need
// and that the demo is not.
const role = "ONESCRAPE_TEST_ROLE"

func TestMain(m *testing.M) {
	if name := os.Getenv(role); name != "" {
		run, ok := roles[name]
		if !ok {
			fmt.Fprintln(os.Stderr, "no role", name)
			os.Exit(2)
		}
		if err := run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(test(m))
}

func test(m *testing.M) int {
	dir, err := os.MkdirTemp("", "onescrape-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Other users run it too: the tests that need somebody without rights are one when root runs them.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	onescrape = filepath.Join(dir, "onescrape")
	if err := build(onescrape, "github.com/onescrape/onescrape/cmd/onescrape"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// build builds a program as these tests themselves were: with the race detector when they have it.
func build(to, pkg string) error {
	args := []string{"build", "-o", to}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, pkg)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// times is how often a test repeats what it is about: n times, and less often where the race detector makes everything
// slow and looks for something else.
func times(n int) int {
	if race {
		return max(1, n/5)
	}
	return n
}

// long skips a test that takes seconds in a short run.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes seconds")
	}
}
