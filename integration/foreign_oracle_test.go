package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore/foreign"
	"github.com/onescrape/onescrape/shmstore/foreign/python"
	"github.com/onescrape/onescrape/shmstore/foreign/rubymmap"
)

// pythonInterpreter is Debian's interpreter, whose prometheus_client the package installs.
func pythonInterpreter(t testing.TB) string {
	t.Helper()
	const interpreter = "/usr/bin/python3"
	if exec.Command(interpreter, "-c", "import prometheus_client").Run() != nil {
		missing(t, "%s has no prometheus_client (Debian: apt-get install python3-prometheus-client)", interpreter)
	}
	return interpreter
}

// rubyInterpreter is Debian's, with its prometheus-client-mmap.
func rubyInterpreter(t testing.TB) string {
	t.Helper()
	path := peer(t, "ruby", "ruby-prometheus-client-mmap")
	if exec.Command(path, "-e", "require 'prometheus/client/formats/text'").Run() != nil {
		missing(t, "ruby has no prometheus-client-mmap (Debian: apt-get install ruby-prometheus-client-mmap)")
	}
	return path
}

// TestForeignOracles writes hundreds of directories with the libraries themselves, random metrics of every type and
// mode from several processes each, and exposes what the libraries do.
func TestForeignOracles(t *testing.T) {
	long(t)
	tests := map[string]struct {
		program func(testing.TB) string
		script  []string
		n       int
		open    func(dir string, o foreign.Options) (*foreign.Dir, error)
	}{
		"client_python":          {pythonInterpreter, []string{"oracle.py", "many"}, 300, python.Open},
		"prometheus-client-mmap": {rubyInterpreter, []string{"oracle.rb"}, 200, rubymmap.Open},
	}
	for library, test := range tests {
		t.Run(library, func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			args := append([]string{filepath.Join("testdata", "peers", test.script[0])}, test.script[1:]...)
			b, err := exec.Command(test.program(t), append(args, out, strconv.Itoa(test.n))...).CombinedOutput()
			require.NoError(t, err, "%s", b)
			exposed := 0
			for i := range test.n {
				dir := filepath.Join(out, strconv.Itoa(i))
				expected, err := os.ReadFile(dir + ".prom")
				require.NoError(t, err)
				d, err := test.open(dir, foreign.Options{})
				require.NoError(t, err)
				s := openForeign(t, d)
				assertSame(t, expected, s)
				require.NoError(t, s.Close())
				exposed += bytes.Count(expected, []byte("\n"))
				if t.Failed() {
					t.Fatalf("directory %d", i)
				}
			}
			t.Logf("%d directories, %d lines", test.n, exposed)
		})
	}
}

// TestForeignOracleLive follows processes of client_python while they live: one Store, which reads only what is new,
// against the library, which reads everything, while series are added and workers come and go.
func TestForeignOracleLive(t *testing.T) {
	long(t)
	const steps = 60
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "expected.prom")
	cmd := exec.Command(pythonInterpreter(t), filepath.Join("testdata", "peers", "oracle.py"), "live", dir, out)
	cmd.Stderr = os.Stderr
	tell, err := cmd.StdinPipe()
	require.NoError(t, err)
	told, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cmd.Wait() })
	t.Cleanup(func() { tell.Close() })
	s := openForeign(t, pythonDir(t, dir, foreign.Options{}))
	lines := bufio.NewScanner(told)
	for i := range steps {
		fmt.Fprintln(tell, "step")
		require.True(t, lines.Scan())
		expected, err := os.ReadFile(out)
		require.NoError(t, err)
		assertSame(t, expected, s)
		if t.Failed() {
			t.Fatalf("step %d", i)
		}
	}
}
