package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// refused holds what a command said when it refused to work: one line that is an error's, which contains all of words,
// and no other line but the log's.
func refused(t *testing.T, r result, words ...string) {
	t.Helper()
	assert.Equal(t, 1, r.status, "%+v", r)
	var said []string
	for line := range strings.Lines(r.stderr) {
		if !strings.HasPrefix(line, "time=") {
			said = append(said, strings.TrimSpace(line))
		}
	}
	if assert.Len(t, said, 1, "%+v", r) {
		assert.True(t, strings.HasPrefix(said[0], "onescrape: error: "), said[0])
		for _, w := range words {
			assert.Contains(t, said[0], w)
		}
	}
	for line := range strings.Lines(r.stdout) {
		assert.Regexp(t, `\(pid \d+, .*\): (.* asked for|slot \d+: .*)$`, strings.TrimSpace(line), "only progress before the error")
	}
}

func TestBadFlags(t *testing.T) {
	long(t)
	for _, c := range []struct {
		args  []string
		words []string
	}{
		{[]string{"demo", "--workers", "0"}, []string{"--workers", `"0"`, "give 1 to", "one a CPU"}},
		{[]string{"demo", "--workers", "-1"}, []string{`"-1"`, "give 1 to"}},
		{[]string{"demo", "--workers=-1"}, []string{`"-1"`, "give 1 to"}},
		{[]string{"demo", "--workers", "many"}, []string{`"many"`, "give 1 to"}},
		{[]string{"run", "--workers", "-1", "--", "true"}, []string{`"-1"`, "give 1 to"}},
		{[]string{"scale", "0"}, []string{`"0"`, "give 1 to"}},
		{[]string{"demo", "--wokers", "2"}, []string{"unknown long flag '--wokers'", "try --help"}},
		{[]string{"demo", "-x"}, []string{"unknown short flag '-x'", "try --help"}},
		{[]string{"dance"}, []string{`"dance"`, "try --help"}},
		{[]string{"run"}, []string{"'command' not provided", "try --help"}},
		{[]string{"demo", "--linger", "soon"}, []string{"--linger", `"soon"`, "write it as"}},
		{[]string{"demo", "--max-requests", "-1"}, []string{"--max-requests", `"-1"`, "0 for never"}},
		{[]string{"demo", "--watchdog", "1us"}, []string{"Watchdog is 1µs", "at least 1ms"}},
		{[]string{"demo", "--listen", "unix:/" + strings.Repeat("x", 200)}, []string{"201 bytes", "shorter"}},
		{[]string{"demo", "--jitter", "2"}, []string{"--jitter", `"2"`, "less than 1"}},
		{[]string{"demo", "--stop-signal", "KILL"}, []string{"--stop-signal", `"KILL"`, "TERM"}},
		{[]string{"demo", "--log.level", "loud"}, []string{"--log.level", "loud"}},
		{[]string{"demo", "--log.format", "xml"}, []string{"--log.format", "xml"}},
		{[]string{"demo", "--listen", "nowhere"}, []string{"nowhere"}},
		{[]string{"demo", "--listen", "127.0.0.1:99999"}, []string{"99999"}},
		{[]string{"demo", "--web.listen-address", "nowhere"}, []string{"nowhere"}},
		{[]string{"demo", "--web.telemetry-path", "metrics"}, []string{"metrics", "/"}},
		{[]string{"demo", "--web.config.file", "/nonexistent/web.yml"}, []string{"/nonexistent/web.yml"}},
		{[]string{"serve", "--store.path", "/nonexistent/store"}, []string{"/nonexistent/store"}},
		{[]string{"inspect", "--store.path", "/nonexistent/store"}, []string{"/nonexistent/store"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			args := c.args
			if args[0] == "demo" {
				args = append(args, "--store.path", filepath.Join(t.TempDir(), "store"))
			}
			refused(t, command(t, args...), c.words...)
		})
	}
}

// asNobody makes a command run as somebody without rights when root runs the tests, and returns a directory of that
// user's.
func asNobody(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Dir(onescrape), "")
	require.NoError(t, err)
	if os.Geteuid() == 0 {
		const nobody = 65534
		require.NoError(t, os.Chown(dir, nobody, nobody))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return dir
}

func TestBadStorePath(t *testing.T) {
	other := 12345
	if os.Geteuid() != 0 {
		other = 0
	}
	for _, c := range []struct {
		name  string
		make  func(t *testing.T, path string)
		words []string
	}{
		{"a file", func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte("hello"), 0o600))
		}, []string{"is a file", "name another path"}},
		{"a symlink", func(t *testing.T, path string) {
			require.NoError(t, os.Mkdir(path+"-real", 0o700))
			require.NoError(t, os.Symlink(path+"-real", path))
		}, []string{"symbolic link", "-real"}},
		{"another user's", func(t *testing.T, path string) {
			if other == 0 {
				t.Skip("only root can make another user's directory")
			}
			require.NoError(t, os.Mkdir(path, 0o700))
			require.NoError(t, os.Chown(path, other, other))
		}, []string{"belongs to uid 12345", "run as its owner"}},
		{"group-writable", func(t *testing.T, path string) {
			require.NoError(t, os.Mkdir(path, 0o700))
			require.NoError(t, os.Chmod(path, 0o770))
		}, []string{"0770", "chmod 0700"}},
		{"world-writable", func(t *testing.T, path string) {
			require.NoError(t, os.Mkdir(path, 0o700))
			require.NoError(t, os.Chmod(path, 0o777))
		}, []string{"0777", "chmod 0700"}},
		{"in no directory", func(*testing.T, string) {}, []string{"mkdir -p"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store")
			if c.name == "in no directory" {
				path = filepath.Join(path, "below")
			}
			c.make(t, path)
			for _, args := range [][]string{{"demo"}, {"run", "--", "true"}} {
				args = append([]string{args[0], "--workers", "1", "--store.path", path, "--listen", freeAddress(t),
					"--web.listen-address", freeAddress(t)}, args[1:]...)
				refused(t, command(t, args...), append(c.words, path)...)
			}
		})
	}

	for name, mode := range map[string]os.FileMode{"not writable": 0o500, "in one that is not writable": 0o700} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(onescrape)
			dir := asNobody(t, cmd)
			path := filepath.Join(dir, "store")
			if mode == 0o500 {
				require.NoError(t, os.Mkdir(path, mode))
				if st, err := os.Stat(dir); err == nil {
					require.NoError(t, os.Chown(path, int(st.Sys().(*syscall.Stat_t).Uid), -1))
				}
			} else {
				require.NoError(t, os.Chmod(dir, 0o500))
			}
			cmd.Args = append(cmd.Args, "demo", "--workers", "1", "--store.path", path, "--listen", freeAddress(t),
				"--web.listen-address", freeAddress(t))
			p := launch(t, cmd)
			status := p.wait()
			refused(t, result{status, p.stdout.String(), p.stderr.String()}, path)
		})
	}
}

// mountSmall mounts a tmpfs of that size for a store, where the test may.
func mountSmall(t *testing.T, size string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	require.NoError(t, os.Mkdir(dir, 0o700))
	if err := mountTmpfs(dir, "mode=0700,size="+size); err != nil {
		t.Skipf("a file system cannot be mounted here (%v), so none can be filled", err)
	}
	t.Cleanup(func() { assert.NoError(t, unmount(dir)) })
	return dir
}

func TestFullFileSystem(t *testing.T) {
	long(t)
	t.Run("no space for more series", func(t *testing.T) {
		store := mountSmall(t, "1m")
		const series = 20000
		argv, env := asRole("series", seriesCount+"="+strconv.Itoa(series))
		s := startRun(t, env, 1, []string{"--ready-settle", "0s", "--store.path", store}, argv...)
		f := mustScrape(t, s.metrics)
		kept, overflow := len(f["http_requests_total"].GetMetric()), int(f.sum("onescrape_store_overflow_series"))
		t.Logf("%d series kept, %d in process memory", kept, overflow)
		assert.Positive(t, kept)
		assert.Positive(t, overflow)
		assert.Equal(t, series, kept+overflow)
		assert.Equal(t, float64(kept), f.sum("http_requests_total"))
		assert.Equal(t, 0, s.status().Slots[0].Restarts, "the worker died")
	})
	t.Run("no space for a worker's file", func(t *testing.T) {
		store := mountSmall(t, "128k")
		argv, env := asRole("series", seriesCount+"=100")
		s := newServer(t)
		s.start(t, env, "run", 8, []string{"--ready-settle", "0s", "--store.path", store}, append([]string{"--"}, argv...)...)
		s.waitReady()
		f := mustScrape(t, s.metrics)
		t.Logf("%v workers without a store", f.sum("onescrape_workers_without_store"))
		assert.Positive(t, f.sum("onescrape_workers_without_store"))
		for _, slot := range s.status().Slots {
			assert.Equal(t, "ready", slot.State)
			assert.Equal(t, 0, slot.Restarts)
		}
	})
}

func TestGarbageInTheStore(t *testing.T) {
	s := startDemo(t, 2)
	_, _, err := get("http://" + s.app + "/")
	require.NoError(t, err)
	v, r := inspect(t, s.store)
	require.Equal(t, 0, r.status, r.stderr)
	require.Len(t, v.Files, 2)
	real := v.Files[0].Name
	whole, err := os.ReadFile(filepath.Join(s.store, real))
	require.NoError(t, err)

	// Names as the store's own, with another nonce.
	n := 0
	var planted []string
	plant := func(make func(path string) error) {
		t.Helper()
		stem, suffix := real, ""
		if i := strings.IndexByte(real, '.'); i >= 0 {
			stem, suffix = real[:i], real[i:]
		}
		n++
		name := stem[:len(stem)-4] + fmt.Sprintf("%04x", n) + suffix
		planted = append(planted, filepath.Join(s.store, name))
		require.NoError(t, make(planted[len(planted)-1]))
	}
	content := func(b []byte) func(string) error {
		return func(path string) error { return os.WriteFile(path, b, 0o400) }
	}
	plant(content(nil))
	plant(content([]byte("this is no file of a store")))
	plant(content(make([]byte, 1<<16)))
	plant(content(whole))
	plant(content(whole[:len(whole)/2]))
	plant(func(path string) error { return syscall.Mkfifo(path, 0o600) })
	plant(func(path string) error { return os.Symlink("/etc/passwd", path) })
	plant(func(path string) error { return os.Mkdir(path, 0o700) })

	_, _, err = get("http://" + s.app + "/")
	require.NoError(t, err)
	f := mustScrape(t, s.metrics)
	assert.Positive(t, f.sum("onescrape_store_errors_total"))
	if s.inspectStates(t)["broken"] == n {
		assert.Equal(t, 2.0, f.sum("demo_requests_total"))
	}

	r = command(t, "inspect", "--store.path", s.store)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "cannot be read")
	assert.Contains(t, r.stdout, "broken: ")
	assert.True(t, s.alive())

	// Files that have gone stay counted, over an upgrade and over the death of the master.
	for _, path := range planted {
		require.NoError(t, os.Remove(path))
	}
	before := mustScrape(t, s.metrics).sum("onescrape_store_errors_total")
	m := startMonitor(s.metrics, monitorOptions{})
	s.control(t, "upgrade")
	m.stop(t)
	require.NoError(t, s.cmd.Process.Kill())
	s.wait()
	s.start(t, nil, "demo", 2, nil)
	s.waitReady()
	assert.Equal(t, before, mustScrape(t, s.metrics).sum("onescrape_store_errors_total"))
}

// inspectStates counts what inspect shows, by "broken", "live" and "dead".
func (s *server) inspectStates(t *testing.T) map[string]int {
	t.Helper()
	v, _ := inspect(t, s.store)
	states := map[string]int{}
	for _, f := range v.Files {
		switch {
		case f.Error != "":
			states["broken"]++
		case f.Live:
			states["live"]++
		default:
			states["dead"]++
		}
	}
	return states
}

func TestTwoMastersOnOneStore(t *testing.T) {
	s := startDemo(t, 1)
	for _, verb := range [][]string{{"demo"}, {"run", "--", "true"}} {
		args := append([]string{verb[0], "--workers", "1", "--store.path", s.store, "--listen", freeAddress(t),
			"--web.listen-address", freeAddress(t)}, verb[1:]...)
		refused(t, command(t, args...), strconv.Itoa(s.pid()), s.store)
	}
	assert.True(t, s.alive())
	assert.Len(t, s.workers(), 1)
}

// An address that somebody else has: the second refuses, or it says what it waits for and starts when that has gone.
func TestAddressInUse(t *testing.T) {
	long(t)
	for _, c := range []struct {
		name    string
		metrics bool
		hold    func(t *testing.T, addr string) (release func())
	}{
		{"by a listener", false, holdByListener},
		{"by a listener with SO_REUSEPORT", false, holdByReusePort},
		{"by another master", false, holdByMaster},
		{"metrics, by a listener", true, holdByListener},
		{"metrics, by a listener with SO_REUSEPORT", true, holdByReusePort},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t)
			addr := s.app
			if c.metrics {
				addr = strings.TrimPrefix(s.base, "http://")
			}
			release := c.hold(t, addr)
			s.start(t, nil, "demo", 2, nil)
			eventually(t, "a line that names the address", func() bool {
				for line := range strings.Lines(s.stderr.String()) {
					if strings.Contains(line, addr) && strings.Contains(line, "in use") {
						return true
					}
				}
				return false
			})
			assert.NotContains(t, s.stdout.String(), "Ctrl-C", "it says that it serves")
			if !s.alive() {
				assert.Equal(t, 1, s.wait())
				return
			}
			release()
			eventually(t, "readiness or the end", func() bool {
				if !s.alive() {
					return true
				}
				code, _, err := get(s.base + "/-/ready")
				return err == nil && code == 200
			})
			if !s.alive() {
				assert.Equal(t, 1, s.wait())
			}
		})
	}
}

func holdByListener(t *testing.T, addr string) func() {
	l, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return func() { l.Close() }
}

func holdByReusePort(t *testing.T, addr string) func() {
	argv, env := asRole("holder", "ONESCRAPE_TEST_ADDRESS="+addr)
	p := launch(t, exec.Command(argv[0]), env...)
	eventually(t, "the holder", func() bool { return strings.Contains(p.stdout.String(), "holding") })
	return func() {
		p.signal(syscall.SIGTERM)
		p.wait()
	}
}

func holdByMaster(t *testing.T, addr string) func() {
	other := newServer(t)
	other.app = addr
	other.start(t, nil, "demo", 1, nil)
	other.waitReady()
	return func() {
		other.signal(syscall.SIGTERM)
		other.wait()
	}
}

func TestBadCommand(t *testing.T) {
	start := func(t *testing.T, argv ...string) *server {
		s := newServer(t)
		s.start(t, nil, "run", 1, []string{"--ready-timeout", "2s"}, append([]string{"--"}, argv...)...)
		return s
	}
	t.Run("does not exist", func(t *testing.T) {
		s := start(t, "/nonexistent/server")
		assert.Equal(t, 1, s.wait())
		refused(t, result{1, s.stdout.String(), s.stderr.String()}, "/nonexistent/server")
	})
	t.Run("not in PATH", func(t *testing.T) {
		s := start(t, "no-such-server-anywhere")
		assert.Equal(t, 1, s.wait())
		refused(t, result{1, s.stdout.String(), s.stderr.String()}, "no-such-server-anywhere")
	})
	t.Run("cannot be executed", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "server")
		require.NoError(t, os.WriteFile(path, []byte("text"), 0o644))
		s := start(t, path)
		assert.Equal(t, 1, s.wait())
		refused(t, result{1, s.stdout.String(), s.stderr.String()}, path)
	})
	t.Run("exits at once", func(t *testing.T) {
		s := start(t, "sh", "-c", "exit 3")
		s.says("exit status 3")
		if s.alive() {
			eventually(t, "the status to show it", func() bool {
				slots := s.status().Slots
				return len(slots) == 1 && strings.Contains(slots[0].LastExit, "exit status 3") && slots[0].Restarts > 0
			})
			code, _, err := get(s.base + "/-/ready")
			require.NoError(t, err)
			assert.Equal(t, 503, code)
			s.signal(syscall.SIGTERM)
			assert.Equal(t, 0, s.wait())
		} else {
			assert.Equal(t, 1, s.wait())
		}
	})
	t.Run("never says ready", func(t *testing.T) {
		s := start(t, "sleep", "600")
		s.says("ready")
		s.signal(syscall.SIGTERM)
		s.wait()
	})
	t.Run("forks before it listens", func(t *testing.T) {
		argv, env := asRole("idle")
		s := newServer(t)
		s.start(t, env, "run", 1, []string{"--ready-timeout", "2s"}, "--", "sh", "-c", argv[0]+"; true")
		s.says("forks before it listens")
		s.signal(syscall.SIGTERM)
		s.wait()
	})
}
