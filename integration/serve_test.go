package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// A store whose workers nobody supervises: serve answers for it, folds the dead, and goes on where the last one stopped.
func TestServe(t *testing.T) {
	long(t)
	program := filepath.Join(t.TempDir(), "shortlived")
	require.NoError(t, build(program, "github.com/onescrape/onescrape/integration/shortlived"))
	store := filepath.Join(t.TempDir(), "store")
	dir, err := shmstore.OpenDir(store, shmstore.DirOptions{Create: true})
	require.NoError(t, err)
	dir.Close()
	lives := 0
	live := func(n int) {
		for range n {
			cmd := exec.Command(program)
			cmd.Env = append(cmd.Environ(), "ONESCRAPE_DIR="+store)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			lives++
		}
	}
	holds := func(url string) {
		t.Helper()
		f := mustScrape(t, url)
		for n := range 3 {
			require.Equal(t, float64(lives*(n+1)), f.sum("shortlived_total", "n", fmt.Sprint(n)))
		}
	}
	files := func() int {
		v, r := inspect(t, store)
		require.Equal(t, 0, r.status, r.stderr)
		return len(v.Files)
	}

	live(20)
	reader := startReader(t, store) // with --no-store.fold
	holds(reader)
	assert.Equal(t, 20, files(), "a reader that does not fold changes nothing")

	for range 2 {
		addr := freeAddress(t)
		s := launch(t, exec.Command(onescrape, "serve", "--store.path", store, "--web.listen-address", addr))
		url := "http://" + addr + "/metrics"
		eventually(t, "the endpoint", func() bool { _, err := scrape(url); return err == nil })
		m := startMonitor(url, monitorOptions{})
		live(20)
		holds(url)
		eventually(t, "the fold", func() bool { return files() == 0 })
		holds(url)
		holds(reader)
		m.stop(t)
		for _, path := range []string{"/-/healthy", "/-/ready"} {
			code, _, err := get("http://" + addr + path)
			require.NoError(t, err)
			assert.Equal(t, 200, code)
		}
		s.signal(syscall.SIGTERM)
		assert.Equal(t, 0, s.wait(), s.stderr.String())
	}

	r := command(t, "inspect", "--store.path", store)
	assert.Equal(t, 0, r.status, r.stderr)
	assert.Contains(t, r.stdout, "archive of the dead")
	assert.Contains(t, r.stdout, "shortlived_total{n}")
	// A broken archive is a broken file.
	require.NoError(t, os.Chmod(filepath.Join(store, "archive"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(store, "archive"), []byte("no archive"), 0o600))
	r = command(t, "inspect", "--store.path", store)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stdout, "broken: ")
}
