package integration

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A server that knows LISTEN_FDS and NOTIFY_SOCKET and nothing of this project.
func TestRunGunicorn(t *testing.T) {
	long(t)
	gunicorn := peer(t, "gunicorn", "gunicorn")
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "hello.py"), []byte(`
import os

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello from python %d\n" % os.getpid()]
`), 0o644))
	s := startRun(t, []string{"PYTHONPATH=" + dir}, 2, nil, gunicorn, "--workers", "1", "hello:app")
	pids := map[string]bool{}
	eventually(t, "answers of two processes", func() bool {
		_, body, err := get("http://" + s.app + "/")
		require.NoError(t, err)
		require.Contains(t, string(body), "hello from python")
		pids[string(body)] = true
		return len(pids) == 2
	})
	s.signal(os.Interrupt)
	assert.Equal(t, 0, s.wait())
}

// A server in another language that knows LISTEN_FDS only, which is taken as ready when it has lived long enough.
func TestRunPython(t *testing.T) {
	long(t)
	python := peer(t, "python3", "python3")
	program := filepath.Join(t.TempDir(), "server.py")
	require.NoError(t, os.WriteFile(program, []byte(`
import http.server, os, socket, sys
assert os.environ["LISTEN_PID"] == str(os.getpid()), "LISTEN_PID"
assert os.environ["LISTEN_FDS"] == "1", "LISTEN_FDS"
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")
server = http.server.HTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
server.socket = socket.socket(fileno=3)
server.socket.setblocking(True)
print("to stdout", flush=True)
print("to stderr", file=sys.stderr, flush=True)
server.serve_forever()
`), 0o644))
	s := startRun(t, nil, 1, []string{"--ready-timeout", "1s", "--ready-settle", "0s"}, python, program)
	code, body, err := get("http://" + s.app + "/")
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, code)
	assert.Equal(t, "hello", string(body))
	// What a worker writes comes through as it is.
	eventually(t, "what it writes", func() bool {
		return s.stdout.String() == "to stdout\n" && strings.Contains("\n"+s.stderr.String(), "\nto stderr\n")
	})
	s.signal(os.Interrupt)
	assert.Equal(t, 0, s.wait())
}

func TestListenOnUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.sock")
	s := startDemo(t, 2, "--listen", "unix:"+path)
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
	for range 10 {
		resp, err := client.Get("http://demo/")
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode)
	}
	assert.Equal(t, 10.0, mustScrape(t, s.metrics).sum("demo_requests_total"))
	assert.Contains(t, s.status().Steering, "off: ")
}

func TestListenOnSeveral(t *testing.T) {
	first, second := freeAddress(t), freeAddress(t)
	s := startDemo(t, 2, "--listen", first, "--listen", "admin="+second)
	for _, addr := range []string{first, second} {
		code, _, err := get("http://" + addr + "/")
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, code)
	}
	assert.Equal(t, 2.0, mustScrape(t, s.metrics).sum("demo_requests_total"))
}

// Workers that need no sockets are fine, but most who start some have forgotten an address.
func TestRunWithoutAddress(t *testing.T) {
	argv, env := asRole("idle")
	s := newServer(t)
	s.process = launch(t, exec.Command(onescrape, append([]string{"run", "--workers", "1", "--web.listen-address",
		strings.TrimPrefix(s.base, "http://"), "--store.path", s.store, "--"}, argv...)...), env...)
	s.says("there is no address")
	s.waitReady()
	s.signal(os.Interrupt)
	assert.Equal(t, 0, s.wait())
}

func TestMetricsPortOff(t *testing.T) {
	s := newServer(t)
	s.start(t, nil, "demo", 1, []string{"--web.listen-address", "off"})
	eventually(t, "the welcome", func() bool { return strings.Contains(s.stdout.String(), "inspect") })
	_, _, err := get(s.base + "/metrics")
	assert.Error(t, err)
	code, _, err := get("http://" + s.app + "/")
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, code)
}

// A page under another path, with basic authentication by the file that all of Prometheus's programs take.
func TestWebConfig(t *testing.T) {
	config := filepath.Join(t.TempDir(), "web.yml")
	const bcryptSecret = "$2b$04$WjfHOzHeATid0TdnyG7XfukcOGajIjA5YuGOEbjc7I7qVtfXLO.bu" // of "secret"
	require.NoError(t, os.WriteFile(config, []byte("basic_auth_users:\n  alice: "+bcryptSecret+"\n"), 0o600))
	s := newServer(t)
	s.start(t, nil, "demo", 1, []string{"--web.config.file", config, "--web.telemetry-path", "/numbers"})
	ask := func(path, password string) (int, error) {
		req, err := http.NewRequest(http.MethodGet, s.base+path, nil)
		require.NoError(t, err)
		if password != "" {
			req.SetBasicAuth("alice", password)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		resp.Body.Close()
		return resp.StatusCode, nil
	}
	eventually(t, "readiness", func() bool {
		code, err := ask("/-/ready", "secret")
		return err == nil && code == http.StatusOK
	})
	for _, c := range []struct {
		path, password string
		code           int
	}{
		{"/numbers", "secret", 200}, {"/numbers", "wrong", 401}, {"/numbers", "", 401}, {"/metrics", "secret", 404},
		{"/api/v1/status", "", 401},
	} {
		code, err := ask(c.path, c.password)
		require.NoError(t, err)
		assert.Equal(t, c.code, code, c)
	}
}

func TestInspect(t *testing.T) {
	s := startDemo(t, 2)
	_, _, err := get("http://" + s.app + "/")
	require.NoError(t, err)
	v, r := inspect(t, s.store)
	assert.Equal(t, 0, r.status, r.stderr)
	require.Len(t, v.Files, 2)
	pids := s.workers()
	names := map[string]string{} // a family is in the file of a worker that used it
	for i, f := range v.Files {
		assert.Equal(t, i, f.Slot)
		assert.Equal(t, pids[i], f.PID)
		assert.True(t, f.Live)
		assert.Positive(t, f.Used)
		assert.GreaterOrEqual(t, f.Reserved, f.Used)
		assert.Positive(t, f.Series)
		for _, m := range f.Families {
			names[m.Name] = strings.TrimSpace(m.Type + " " + m.Mode)
		}
	}
	assert.Equal(t, map[string]string{
		"demo_requests_total": "counter", "demo_request_duration_seconds": "histogram",
		"demo_in_flight": "gauge livesum", "demo_last_request_timestamp_seconds": "gauge mostrecent",
	}, names)

	r = command(t, "inspect", "--store.path", s.store)
	assert.Equal(t, 0, r.status)
	for _, f := range v.Files {
		assert.Contains(t, r.stdout, f.Name)
	}
	for _, word := range []string{"master " + strconv.Itoa(s.pid()), "demo_in_flight", "gauge livesum", " live "} {
		assert.Contains(t, r.stdout, word)
	}

	s.signal(os.Interrupt)
	s.wait()
	v, r = inspect(t, s.store)
	assert.Equal(t, 0, r.status, r.stderr)
	assert.Equal(t, 0, v.Master)
	for _, f := range v.Files {
		assert.False(t, f.Live)
	}
}

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}} {
		r := command(t, args...)
		assert.Equal(t, 0, r.status)
		assert.Contains(t, r.stdout+r.stderr, "onescrape, version ")
	}
}

func TestHelp(t *testing.T) {
	out, err := exec.Command(onescrape, "--help").CombinedOutput()
	require.NoError(t, err)
	for _, word := range []string{"demo", "run", "inspect", "version", "reload", "upgrade", "scale", "stop", "status", "serve"} {
		assert.Regexp(t, "(?m)^"+word+"( |$)", string(out))
	}
}
