package integration

import (
	"os"
	"os/exec"
	"testing"
)

// peer returns the path of a program that is not ours. Where it is not installed the test is skipped and says which
// Debian package has it, or fails when ONESCRAPE_REQUIRE_PEERS=1.
func peer(t testing.TB, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		missing(t, "%s is not installed (Debian: apt-get install %s)", program, pkg)
	}
	return path
}

// missing skips a test that cannot run here, or fails it where everything has to be there.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("ONESCRAPE_REQUIRE_PEERS") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
