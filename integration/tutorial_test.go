package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Somebody follows docs/tutorial.md, with other ports and a store of its own.
func TestTutorial(t *testing.T) {
	long(t)
	peer(t, "curl", "curl")
	s := newServer(t)
	addresses := strings.NewReplacer("127.0.0.1:8080", s.app, "127.0.0.1:9464", strings.TrimPrefix(s.base, "http://"))
	var program string
	var steps []string
	for _, b := range docBlocks(t, "docs/tutorial.md") {
		switch {
		case b.language == "go":
			program = b.text
		case b.check == "test=TestTutorial":
			steps = append(steps, b.text)
		}
	}
	require.Len(t, steps, 6)

	dir := t.TempDir()
	release := func(program string) {
		program = addresses.Replace(program)
		program = strings.Replace(program, "Workers: 2}", `Workers: 2, MetricsListen: "`+strings.TrimPrefix(s.base, "http://")+`"}`, 1)
		require.Contains(t, program, s.base[len("http://"):])
		write(t, dir, "main.go", program)
		require.NoError(t, build(filepath.Join(dir, "shop"), filepath.Join(dir, "main.go")))
	}
	env := []string{"ONESCRAPE_DIR=" + s.store, "PATH=" + filepath.Dir(onescrape) + ":" + os.Getenv("PATH")}
	do := func(step string) string {
		cmd := exec.Command("sh", "-ec", addresses.Replace(step))
		cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", step, out)
		return string(out)
	}

	release(program)
	cmd := exec.Command("sh", "-c", "exec "+steps[0])
	cmd.Dir = dir
	s.process = launch(t, cmd, env...)
	s.waitReady()

	out := do(steps[1])
	assert.Equal(t, 10, strings.Count(out, "thank you\n"))
	assert.Contains(t, out, "shop_orders_total{item=\"tea\"} 10\n")

	before := s.workers()
	require.Len(t, before, 2)
	assert.Contains(t, do(steps[2]), strconv.Itoa(before[0]))
	assert.Equal(t, "shop_orders_total{item=\"tea\"} 10\n", do(strings.Replace(steps[3], "PID", strconv.Itoa(before[0]), 1)))
	eventually(t, "a new worker", func() bool { pids := s.workers(); return len(pids) == 2 && pids[0] != before[0] })

	release(strings.Replace(program, "thank you", "thanks", 1))
	out = do(strings.Replace(steps[4], "go build -o shop .\n", "", 1))
	assert.Contains(t, out, "reload done: 2 workers replaced")
	assert.Equal(t, "thanks\nshop_orders_total{item=\"tea\"} 11\n", do(steps[5]))
}
