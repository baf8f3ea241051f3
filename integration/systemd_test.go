package integration

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// manager is the other end of NOTIFY_SOCKET, as systemd is it.
type manager struct {
	path string
	mu   sync.Mutex
	got  []string // one a datagram
}

func newManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{path: filepath.Join(t.TempDir(), "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.got = append(m.got, strings.TrimSpace(string(b[:n])))
			m.mu.Unlock()
		}
	}()
	return m
}

// find is the place of the first datagram from that place on that has all of the lines; -1 when it did not come yet.
func (m *manager) find(from int, lines ...string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
next:
	for i := from; i < len(m.got); i++ {
		for _, line := range lines {
			if !strings.Contains("\n"+m.got[i]+"\n", "\n"+line) {
				continue next
			}
		}
		return i
	}
	return -1
}

func (m *manager) wait(t *testing.T, from int, lines ...string) int {
	t.Helper()
	at := -1
	eventually(t, strings.Join(lines, " "), func() bool { at = m.find(from, lines...); return at >= 0 })
	return at
}

func TestNotify(t *testing.T) {
	m := newManager(t)
	s := newServer(t)
	s.start(t, []string{"NOTIFY_SOCKET=" + m.path}, "demo", 2, quick)
	at := m.wait(t, 0, "READY=1\n")
	code, _, err := get("http://" + s.app + "/")
	require.NoError(t, err, "ready and nobody answers")
	assert.Equal(t, 200, code)

	s.signal(syscall.SIGHUP)
	at = m.wait(t, at+1, "RELOADING=1\n", "MONOTONIC_USEC=")
	at = m.wait(t, at+1, "READY=1\n")
	s.signal(syscall.SIGUSR2)
	at = m.wait(t, at+1, "RELOADING=1\n", "MONOTONIC_USEC=")
	at = m.wait(t, at+1, "READY=1\n")
	s.signal(syscall.SIGTERM)
	m.wait(t, at+1, "STOPPING=1\n")
	assert.Equal(t, 0, s.wait())
	assert.GreaterOrEqual(t, m.find(0, "STATUS="), 0)
}

// Sockets that somebody else opened, as systemd does it.
func TestSocketActivation(t *testing.T) {
	long(t)
	activate := peer(t, "systemd-socket-activate", "systemd")
	argv, env := asRole("web", "ONESCRAPE_TEST_RELEASE=hello")
	s := newServer(t)
	s.process = launch(t, exec.Command(activate, append([]string{"--listen", s.app, "--fdname", "http", "--setenv", role,
		"--setenv", "ONESCRAPE_TEST_RELEASE", onescrape, "run", "--workers", "2", "--web.listen-address",
		strings.TrimPrefix(s.base, "http://"), "--store.path", s.store, "--ready-settle", "0s", "--"}, argv...)...), env...)
	s.says("Listening on")
	// The first connection starts the master, and is answered too.
	code, body, err := get("http://" + s.app + "/")
	require.NoError(t, err)
	assert.Equal(t, 200, code)
	assert.Equal(t, "hello", string(body))
	s.waitReady()
	assert.Contains(t, s.status().Steering, "off: ")
	load := startLoad(s.app, 4, false)
	s.control(t, "reload")
	s.control(t, "upgrade")
	s.control(t, "scale", "4")
	s.control(t, "scale", "1")
	load.stop()
	assert.Zero(t, load.failed.Load(), "%v", load.failures())
}

// The units of docs/systemd, with the path of the program that is here.
func TestUnits(t *testing.T) {
	analyze := peer(t, "systemd-analyze", "systemd")
	version := systemdVersion(t, analyze)
	dir := t.TempDir()
	files, err := filepath.Glob("../docs/systemd/*")
	require.NoError(t, err)
	require.Len(t, files, 4)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		unit := strings.NewReplacer("/usr/local/bin/onescrape", onescrape, "/usr/local/bin/web", "/bin/true").Replace(string(text))
		if version < 253 {
			unit = strings.Replace(unit, "Type=notify-reload", "Type=notify", 1)
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(file)), []byte(unit), 0o644))
	}
	for _, units := range [][]string{{"web.service", "web.socket"}, {"web-notify-reload.service"},
		{"python-metrics.service"}} {
		args := []string{"verify", "--man=no"}
		for _, u := range units {
			args = append(args, filepath.Join(dir, u))
		}
		out, err := exec.Command(analyze, args...).CombinedOutput()
		assert.NoError(t, err, "%v: %s", units, out)
		assert.Empty(t, string(out), units)
	}
}

func systemdVersion(t *testing.T, analyze string) int {
	t.Helper()
	out, err := exec.Command(analyze, "--version").Output()
	require.NoError(t, err)
	fields := strings.Fields(string(out))
	require.Greater(t, len(fields), 1)
	n, err := strconv.Atoi(fields[1])
	require.NoError(t, err)
	return n
}

// The alert rules are good ones, and each of them fires when it should and only then.
func TestAlertRules(t *testing.T) {
	long(t)
	promtool := peer(t, "promtool", "prometheus")
	dir := t.TempDir()
	for _, file := range []string{"../docs/alerts.yml", "testdata/alerts_test.yml"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o644))
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%v: %s", args, out)
	}
}

// The alert rules name metrics, and values of their labels, that a scrape has.
func TestAlertMetrics(t *testing.T) {
	s := startDemo(t, 1)
	f := mustScrape(t, s.metrics)
	text, err := os.ReadFile("../docs/alerts.yml")
	require.NoError(t, err)
	seen := 0
	for line := range strings.Lines(string(text)) {
		expr, ok := strings.CutPrefix(strings.TrimSpace(line), "expr: ")
		if !ok {
			continue
		}
		for _, m := range regexp.MustCompile(`(onescrape_\w+)(?:\{(\w+)=~?"([^"]*)"\})?`).FindAllStringSubmatch(expr, -1) {
			if assert.Contains(t, f, m[1]) && m[2] != "" {
				for value := range strings.SplitSeq(m[3], "|") {
					assert.True(t, slices.ContainsFunc(f[m[1]].GetMetric(), func(metric *dto.Metric) bool {
						return has(metric, []string{m[2], value})
					}), "no series of %s has %s=%q", m[1], m[2], value)
				}
			}
			seen++
		}
	}
	assert.GreaterOrEqual(t, seen, 8)
}
