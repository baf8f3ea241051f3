package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/worker"
)

// In single mode the function runs in the process that was started, which serves its own metrics.
func TestSingleProcess(t *testing.T) {
	m := launchMaster(t, options{"Workers": 4, "Linger": time.Millisecond}, "ONESCRAPE_SINGLE=1")
	m.logged("one process without workers and without a store")
	find := func(pattern string) string {
		found := regexp.MustCompile(pattern).FindStringSubmatch(m.log.String())
		require.Len(t, found, 2, m.log.String())
		return found[1]
	}
	app, metrics := "http://"+find(`listen=\[([^\]]+)\]`), "http://"+find(`metrics=(\S+)`)
	require.Eventually(t, func() bool { _, code := m.get(metrics + "/-/ready"); return code == http.StatusOK }, patient,
		5*time.Millisecond)
	body, _ := m.get(app + "/")
	assert.Equal(t, fmt.Sprint(m.cmd.Process.Pid), body)
	body, _ = m.get(metrics + "/metrics")
	assert.Contains(t, body, `test_requests_total{path="/"} 1`)
	body, _ = m.get(metrics + "/api/v1/status")
	assert.Contains(t, body, fmt.Sprintf(`"pid": %d`, m.cmd.Process.Pid))
	files, err := os.ReadDir(m.store)
	require.NoError(t, err)
	assert.Empty(t, files, "there is no store")
	m.signal(syscall.SIGTERM)
	assert.Equal(t, 0, m.finished())
}

// A test may call Run again and again.
func TestSingleInATest(t *testing.T) {
	t.Setenv(singleEnv, "1")
	cfg := Config{Listen: []string{"127.0.0.1:0"}, MetricsListen: "off", Logger: slog.New(slog.DiscardHandler)}
	require.True(t, IsWorker())
	for range 2 {
		failure := errors.New("the function's own")
		var address string
		err := Run(cfg, func(_ context.Context, w *worker.Worker) error {
			address = w.Listeners()[0].Addr().String()
			return failure
		})
		assert.ErrorIs(t, err, failure)
		assert.True(t, strings.HasPrefix(address, "127.0.0.1:"))
	}
	assert.ErrorContains(t, Run(Config{Command: []string{"true"}}, nil), "ONESCRAPE_SINGLE=1 runs the function of a program")
	cfg.Listen = []string{"nonsense"}
	assert.ErrorContains(t, Run(cfg, func(context.Context, *worker.Worker) error { return nil }), "nonsense")
}
