package shmstore

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore/internal/osfile"
)

// childEnv names what this binary does instead of running its tests, when a test starts it as a process of its own.
const childEnv = "SHMSTORE_TEST_CHILD"

// children are the processes that tests start. They get the store's path and end with the process.
var children = map[string]func(dir string) error{}

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		if err := children[name](os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, name+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// startChild starts a process that runs children[name] on the store. It returns what the process writes to its standard
// output; its standard input ends with the test.
func startChild(t *testing.T, name, dir string) (*exec.Cmd, io.Reader) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, dir)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	cmd.Stderr = os.Stderr
	_, err = cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, out
}

// tempDir is t.TempDir in memory, where there is some that files can be kept in.
func tempDir(t testing.TB) string {
	t.Helper()
	if !osfile.MemoryFS("/dev/shm") {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "shmstore-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func newStore(t testing.TB) *Dir {
	t.Helper()
	return storeAt(t, filepath.Join(tempDir(t), "store"))
}

func storeAt(t testing.TB, path string) *Dir {
	t.Helper()
	d, err := OpenDir(path, DirOptions{Create: true})
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

func newWriter(t testing.TB, d *Dir, o WriterOptions) *Writer {
	t.Helper()
	w, err := d.Create(o)
	require.NoError(t, err)
	t.Cleanup(func() { w.Abandon() })
	return w
}

func openReader(t testing.TB, d *Dir, name string) *Reader {
	t.Helper()
	r, err := d.Open(name)
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	require.NoError(t, r.Refresh())
	return r
}

func addFamily(t testing.TB, w *Writer, f Family) uint32 {
	t.Helper()
	id, err := w.AddFamily(f)
	require.NoError(t, err)
	return id
}

func addSeries(t testing.TB, w *Writer, family uint32, values ...string) *Series {
	t.Helper()
	s, err := w.AddSeries(family, values)
	require.NoError(t, err)
	return s
}

// cellsOf returns a copy of the cells of each series that r has parsed.
func cellsOf(t testing.TB, r *Reader) [][]uint64 {
	t.Helper()
	var all [][]uint64
	require.NoError(t, r.Read(func(words []uint64) {
		all = make([][]uint64, len(r.Series()))
		for i, s := range r.Series() {
			for j := range s.Words {
				all[i] = append(all[i], atomic.LoadUint64(&words[s.Cell+j]))
			}
		}
	}))
	return all
}

// fileSize returns how long a file of the store is.
func fileSize(t testing.TB, d *Dir, name string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(d.Path(), name))
	require.NoError(t, err)
	return info.Size()
}

// eventually waits for a condition that another process brings about.
func eventually(t testing.TB, condition func() bool, what string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(deadline), what)
	}
}

// long skips a test that takes seconds in a short run.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes seconds")
	}
}
