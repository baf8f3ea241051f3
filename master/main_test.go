package master

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/master/internal/environment"
	"github.com/onescrape/onescrape/worker"
)

// The tests start real masters with real workers: this test binary, called again. programEnv is the configuration of
// such a program as JSON, behaviorEnv names a file that says what kind of release a worker is when it starts.
const (
	programEnv  = "ONESCRAPE_TEST_PROGRAM"
	behaviorEnv = "ONESCRAPE_TEST_BEHAVIOR"
)

// answered counts in the store what the workers of the tests answered.
var answered = worker.NewCounterVec(prometheus.CounterOpts{Name: "test_requests_total", Help: "Requests."},
	[]string{"path"})

// roles are what else this test binary is, when it is called as "role:NAME": workers of another kind, and processes that
// have nothing to do with the master.
var roles = map[string]func() error{}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if name, ok := strings.CutPrefix(os.Args[1], "role:"); ok {
			os.Exit(exitStatus(roles[name]()))
		}
	}
	switch os.Getenv(programEnv) {
	case "":
	case "embed":
		os.Exit(exitStatus(testEmbed()))
	default:
		os.Exit(testProgram())
	}
	os.Exit(m.Run())
}

func testProgram() int {
	if os.Getenv("ONESCRAPE_TEST_ACTIVATE") != "" {
		// What systemd does between fork and exec.
		os.Unsetenv("ONESCRAPE_TEST_ACTIVATE")
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		syscall.Exec(os.Args[0], os.Args, os.Environ())
	}
	if n, err := strconv.ParseUint(os.Getenv("ONESCRAPE_TEST_FILES"), 10, 64); err == nil {
		limit := syscall.Rlimit{}
		syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
		limit.Cur = n
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
	var c struct {
		Workers, MaxRequests                                                                int
		Listen, Command                                                                     []string
		MetricsListen, Store, TelemetryPath, Chdir                                          string
		GracefulTimeout, Linger, ReadyTimeout, ReadySettle, ShutdownDelay, Watchdog, MaxAge time.Duration
		SocketNonblocking                                                                   bool
	}
	if err := json.Unmarshal([]byte(os.Getenv(programEnv)), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if text, err := os.ReadFile(os.Getenv(programEnv + "_FILE")); err == nil {
		switch strings.TrimSpace(string(text)) {
		case "crash":
			panic("this release is broken")
		case "hang":
			select {}
		case "other":
			return 0
		default:
			if err := json.Unmarshal(text, &c); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 2
			}
		}
	}
	cfg := Config{Workers: c.Workers, SocketNonblocking: c.SocketNonblocking, MaxRequests: int64(c.MaxRequests), Listen: c.Listen, Command: c.Command,
		MetricsListen: c.MetricsListen, TelemetryPath: c.TelemetryPath, Store: c.Store,
		Chdir: c.Chdir, GracefulTimeout: c.GracefulTimeout, Linger: c.Linger,
		ReadyTimeout: c.ReadyTimeout, ReadySettle: c.ReadySettle, ShutdownDelay: c.ShutdownDelay, Watchdog: c.Watchdog,
		MaxAge: c.MaxAge, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if os.Getenv(slowLog) != "" {
		cfg.Logger = slog.New(slowHandler{cfg.Logger.Handler()})
	}
	function := testWorker
	if len(c.Command) > 0 {
		function = nil
		for i, arg := range c.Command {
			if arg == "self" {
				c.Command[i] = os.Args[0]
			}
		}
		if c.Command[0] == os.Args[0] {
			// A worker of another kind: it finds everything in the environment.
			cfg.Command = []string{os.Args[0], "as-command"}
		}
	}
	if len(os.Args) > 1 && os.Args[1] == "as-command" {
		w, err := worker.FromEnvironment(context.Background())
		if err == nil {
			err = testWorker(w.Stopping(), w)
		}
		return exitStatus(err)
	}
	return exitStatus(Run(cfg, function))
}

// testEmbed is a prefork server of another kind: it starts its own workers.
func testEmbed() error {
	dir := os.Getenv("ONESCRAPE_TEST_STORE")
	store, err := Embed(dir, aggregate.Options{})
	if err != nil {
		return err
	}
	if store == nil {
		answered.WithLabelValues("child").Inc()
		return nil
	}
	defer store.Close()
	answered.WithLabelValues("master").Inc()
	for range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return err
		}
	}
	_, err = Embed(dir, aggregate.Options{})
	fmt.Println("twice:", err)
	os.Unsetenv(environment.Embed)
	cmd := exec.Command(os.Args[0])
	cmd.Stderr = os.Stdout // says that the store is in use
	cmd.Run()
	return store.WriteText(os.Stdout)
}

func exitStatus(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}

// testWorker is the release that behaviorEnv says.
func testWorker(ctx context.Context, w *worker.Worker) error {
	behavior, _ := os.ReadFile(os.Getenv(behaviorEnv))
	release := strings.TrimSpace(string(behavior))
	kind, after, _ := strings.Cut(release, " ")
	kind, slot, one := strings.Cut(kind, "@")
	if one && slot != strconv.Itoa(w.Slot()) {
		kind = "ok"
	}
	lives := 500 * time.Millisecond
	if d, err := time.ParseDuration(after); err == nil {
		lives = d
	}
	switch kind {
	case "exit":
		fmt.Fprintln(os.Stderr, "this release is broken")
		os.Exit(3)
	case "exit0":
		os.Exit(0)
	case "silent":
		select {}
	case "die":
		time.AfterFunc(lives, func() { os.Exit(4) })
	case "killed":
		time.AfterFunc(lives, func() { syscall.Kill(os.Getpid(), syscall.SIGKILL) })
	case "finish":
		time.AfterFunc(lives, func() { os.Exit(0) })
	case "fail":
		w.Ready()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lives):
			return fmt.Errorf("no database any more")
		}
	case "hang":
		time.AfterFunc(lives, func() { syscall.Kill(os.Getpid(), syscall.SIGSTOP) })
	case "big":
		for i := range 22_000 { // 6 MB of metrics, more than the buffers of a connection hold
			answered.WithLabelValues(fmt.Sprintf("/%0250d", i))
		}
	case "sick":
		w.Healthy(func(context.Context) error { return fmt.Errorf("no database") })
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		answered.WithLabelValues("/").Inc()
		fmt.Fprint(rw, os.Getpid())
	})
	mux.HandleFunc("/slow", func(rw http.ResponseWriter, r *http.Request) {
		answered.WithLabelValues("/slow").Inc()
		ms, _ := strconv.Atoi(r.FormValue("ms"))
		select {
		case <-time.After(time.Duration(ms) * time.Millisecond):
			fmt.Fprint(rw, os.Getpid())
		case <-r.Context().Done():
			http.Error(rw, "given up", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/shutdown", func(rw http.ResponseWriter, r *http.Request) {
		if r.FormValue("slot") == strconv.Itoa(w.Slot()) {
			raw, _ := w.Listeners()[0].(*net.TCPListener).SyscallConn()
			raw.Control(func(fd uintptr) { syscall.Shutdown(int(fd), syscall.SHUT_RD) })
		}
		fmt.Fprint(rw, os.Getpid())
	})
	mux.HandleFunc("/orphan", func(http.ResponseWriter, *http.Request) {
		exec.Command("sh", "-c", "sleep 0.01 & exit").Run()
	})
	mux.HandleFunc("/crash", func(http.ResponseWriter, *http.Request) { os.Exit(9) })
	mux.HandleFunc("/env", func(rw http.ResponseWriter, r *http.Request) {
		json.NewEncoder(rw).Encode(map[string]any{"env": os.Environ(), "slot": w.Slot(), "release": release,
			"names": r.Context().Value(http.LocalAddrContextKey).(net.Addr).String()})
	})
	return w.Serve(&http.Server{Handler: mux})
}

// running master and what it logged.
type testMaster struct {
	t        *testing.T
	cmd      *exec.Cmd
	store    string
	program  string // the link to the program
	behavior string // the file
	config   string // the file that an upgrade reads
	log      *logBuffer
	exit     chan error
	client   *http.Client
}

// logBuffer is a file that others append to; reading it needs no lock with them.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

type options map[string]any

// patient is how long a test waits for what must come, on a machine that is busy with other things.
const patient = time.Minute

// newStore returns a directory for a store in memory, where there is one.
func newStore(t *testing.T) string {
	dir := t.TempDir()
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		if d, err := os.MkdirTemp("/dev/shm", "onescrape-test-"); err == nil {
			t.Cleanup(func() { os.RemoveAll(d) })
			return d
		}
	}
	require.NoError(t, os.Chmod(dir, 0o700))
	return dir
}

// launchMaster starts a master with quick defaults and does not wait for it.
func launchMaster(t *testing.T, o options, env ...string) *testMaster {
	t.Helper()
	m := &testMaster{t: t, log: &logBuffer{}, exit: make(chan error, 1),
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patient}}
	config := options{"Workers": 2, "Listen": []string{"127.0.0.1:0"}, "MetricsListen": "127.0.0.1:0",
		"GracefulTimeout": patient, "Linger": 5 * time.Second}
	maps.Copy(config, o)
	files, _ := config["files"].([]*os.File)
	stderr, _ := config["stderr"].(*os.File)
	delete(config, "files")
	delete(config, "stderr")
	if config["Store"] == nil {
		config["Store"] = newStore(t)
	}
	m.store = config["Store"].(string)
	dir := t.TempDir()
	m.behavior, m.config = filepath.Join(dir, "behavior"), filepath.Join(dir, "config")
	text, err := json.Marshal(config)
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	m.program = filepath.Join(dir, "program")
	require.NoError(t, os.Symlink(self, m.program))
	m.cmd = exec.Command(m.program)
	if slices.Contains(env, "ONESCRAPE_TEST_PID_ONE=1") {
		m.cmd = exec.Command("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", m.program)
	}
	if slices.Contains(env, ignoredPipe) {
		m.cmd = exec.Command("sh", "-c", "trap '' PIPE; exec \"$0\"", m.program)
	}
	if slices.Contains(env, fewFiles) {
		m.cmd = exec.Command("prlimit", "--nofile=128:128", m.program)
	}
	m.cmd.Env = append(os.Environ(), programEnv+"="+string(text), programEnv+"_FILE="+m.config, behaviorEnv+"="+m.behavior)
	m.cmd.Env = append(m.cmd.Env, env...)
	m.cmd.Stdout, m.cmd.Stderr, m.cmd.ExtraFiles = m.log, m.log, files
	if stderr != nil {
		m.cmd.Stderr = stderr
	}
	require.NoError(t, m.cmd.Start())
	go func() { m.exit <- m.cmd.Wait() }()
	t.Cleanup(func() {
		m.cmd.Process.Signal(syscall.SIGINT)
		select {
		case err := <-m.exit:
			m.exit <- err
		case <-time.After(patient):
			m.cmd.Process.Kill()
			t.Error("the master did not stop")
		}
		assert.NotContains(t, m.log.String(), "DATA RACE")
		if t.Failed() {
			t.Log(m.log.String())
		}
	})
	return m
}

// startMaster starts a master and waits until it is ready.
func startMaster(t *testing.T, o options, env ...string) *testMaster {
	t.Helper()
	m := launchMaster(t, o, env...)
	m.until("it is ready", func(s Status) bool { return s.Ready })
	return m
}

func (m *testMaster) signal(sig syscall.Signal) {
	m.t.Helper()
	require.NoError(m.t, m.cmd.Process.Signal(sig))
}

// status is what the store says of this master; the zero Status when it says nothing.
func (m *testMaster) status() Status {
	if s, pid := m.storeStatus(); pid == m.cmd.Process.Pid {
		return s
	}
	return Status{}
}

// storeStatus is what the store says, and of which master.
func (m *testMaster) storeStatus() (s Status, pid int) {
	d, err := openStore(m.store)
	if err != nil {
		return s, 0
	}
	defer d.Close()
	pid, text, _ := d.Master()
	json.Unmarshal(text, &s)
	return s, pid
}

// until waits until the status is such.
func (m *testMaster) until(what string, f func(Status) bool) Status {
	m.t.Helper()
	var s Status
	require.Eventually(m.t, func() bool {
		s = m.status()
		return f(s)
	}, patient, 5*time.Millisecond, what)
	return s
}

// logged waits until the master's log has a text, which comes through a pipe and so later than the status.
func (m *testMaster) logged(text string) {
	m.t.Helper()
	require.Eventually(m.t, func() bool { return strings.Contains(m.log.String(), text) }, patient, 5*time.Millisecond, text)
}

// finished waits for the master's end and returns its exit status.
func (m *testMaster) finished() int {
	m.t.Helper()
	select {
	case err := <-m.exit:
		m.exit <- err
		return m.cmd.ProcessState.ExitCode()
	case <-time.After(patient):
		require.FailNow(m.t, "the master did not end", m.log.String())
		return 0
	}
}

func (m *testMaster) url(path string) string { return "http://" + m.status().Addresses[0] + path }

// get returns what a URL answers, and "" for an error.
func (m *testMaster) get(url string) (string, int) {
	r, err := m.client.Get(url)
	if err != nil {
		return err.Error(), 0
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error(), 0
	}
	return string(b), r.StatusCode
}

// answered waits until the workers have begun to answer so many requests for a path.
func (m *testMaster) answered(path string, n int) {
	m.t.Helper()
	url, want := "http://"+m.status().Metrics+"/metrics", fmt.Sprintf("test_requests_total{path=%q} %d", path, n)
	require.Eventually(m.t, func() bool {
		body, _ := m.get(url)
		return strings.Contains(body, want)
	}, patient, 10*time.Millisecond)
}

// roll sends the signal of a rollout and waits for its end.
func (m *testMaster) roll(sig syscall.Signal) *Rollout {
	m.t.Helper()
	before := 0
	if r := m.status().Rollout; r != nil {
		before = r.ID
	}
	m.signal(sig)
	return m.until("the rollout is over", func(s Status) bool {
		return s.Rollout != nil && s.Rollout.ID > before && s.Rollout.State != running
	}).Rollout
}

// load sends requests from several clients until stop is called, which returns how many were answered and what failed.
func (m *testMaster) load(clients int, keepAlive bool, path string) (stop func() (ok int, failures []string)) {
	m.t.Helper()
	url := m.url(path)
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		ok       int
		failures []string
		done     = make(chan struct{})
	)
	for range clients {
		wg.Go(func() {
			transport := &http.Transport{DisableKeepAlives: !keepAlive}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: &noRetry{transport}, Timeout: patient}
			for {
				select {
				case <-done:
					return
				default:
				}
				r, err := client.Get(url)
				if err == nil {
					_, err = io.Copy(io.Discard, r.Body)
					r.Body.Close()
				}
				mu.Lock()
				if err != nil {
					failures = append(failures, fmt.Sprint(time.Now().Format("15:04:05.000 "), err))
				} else if r.StatusCode != http.StatusOK {
					failures = append(failures, r.Status)
				} else {
					ok++
				}
				mu.Unlock()
			}
		})
	}
	end := sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
	m.t.Cleanup(end)
	return func() (int, []string) {
		end()
		return ok, failures
	}
}

// noRetry keeps the transport from trying a request again on another connection, which would hide a dropped one: a
// request with a body that cannot be read again is sent once.
type noRetry struct{ next http.RoundTripper }

func (n *noRetry) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Method, r.Body, r.ContentLength = http.MethodPost, io.NopCloser(strings.NewReader("x")), 1
	r.GetBody = nil
	return n.next.RoundTrip(r)
}

// hex4 is a decimal port as /proc/net writes it.
func hex4(port string) string {
	n, _ := strconv.Atoi(port)
	return fmt.Sprintf("%04X", n)
}

// long skips a test that takes seconds in a short run.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes seconds")
	}
}
