package integration

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Gunicorn says READY=1 before it has loaded the application. A release whose module breaks later than a worker needs to
// settle still ends the rollout, and the worker that was not replaced goes on.
func TestGunicornReleaseThatBreaksAfterReady(t *testing.T) {
	long(t)
	if testing.Short() {
		t.Skip("it takes as long as a slow module takes to load")
	}
	gunicorn := peer(t, "gunicorn", "gunicorn")
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "release.py"), []byte(`
import os, time
if os.path.exists(os.environ["BROKEN"]):
    time.sleep(6)
    raise RuntimeError("this release is broken")

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % os.getpid()]
`), 0o644))
	// The first successor breaks 6 s after READY=1 and some. The third one starts 8 s after that at the earliest.
	s := startRun(t, []string{"PYTHONPATH=" + dir, "BROKEN=" + broken}, 3, []string{"--ready-settle", "4s"}, gunicorn,
		"--workers", "1", "release:app")
	answered := map[string]bool{}
	eventually(t, "answers of three processes", func() bool {
		_, body, err := get("http://" + s.app + "/")
		require.NoError(t, err)
		answered[string(body)] = true
		return len(answered) == 3
	})
	before := s.status().Slots
	require.NoError(t, os.WriteFile(broken, nil, 0o644))
	r := command(t, "reload", "--store.path", s.store)
	assert.NotZero(t, r.status)
	assert.Contains(t, r.stderr, "the old ones go on: slot ")
	assert.Contains(t, r.stderr, "after it was ready: exit status 3")
	st := s.status()
	assert.Equal(t, "abandoned", st.Rollout.State)
	assert.Less(t, st.Rollout.Done, 3)
	assert.Equal(t, before[2].PID, st.Slots[2].PID, "the last old worker stays")
	assert.True(t, st.Ready)
	eventually(t, "an answer of an old worker", func() bool {
		_, body, err := get("http://" + s.app + "/")
		return err == nil && answered[string(body)]
	})
	s.signal(os.Interrupt)
}
