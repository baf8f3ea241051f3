package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/master"
)

// server is a master with its workers.
type server struct {
	*process
	app     string // host:port
	metrics string // URL
	base    string // of the metrics port
	store   string
	counter string // the metric that counts requests
}

// given are the addresses that tests have got, each once: who got one may not listen on it yet.
var given sync.Map

// freeAddress is one on loopback that nobody listens on, outside the range from which clients' ports are taken.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000))
		if _, taken := given.LoadOrStore(addr, true); taken {
			continue
		}
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	require.FailNow(t, "no free port")
	return ""
}

// startDemo starts the demo with addresses and a store of its own and waits until it is ready.
func startDemo(t *testing.T, workers int, flags ...string) *server {
	t.Helper()
	return startServer(t, nil, "demo", workers, flags)
}

// startRun starts a command under onescrape run, likewise.
func startRun(t *testing.T, env []string, workers int, flags []string, argv ...string) *server {
	t.Helper()
	return startServer(t, env, "run", workers, flags, append([]string{"--"}, argv...)...)
}

func startServer(t *testing.T, env []string, verb string, workers int, flags []string, argv ...string) *server {
	t.Helper()
	s := newServer(t)
	s.start(t, env, verb, workers, flags, argv...)
	s.waitReady()
	return s
}

// newServer chooses the addresses and the store of a server that start will start.
func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{app: freeAddress(t), store: filepath.Join(t.TempDir(), "store"), counter: "demo_requests_total"}
	s.setMetrics(freeAddress(t))
	return s
}

func (s *server) setMetrics(addr string) {
	s.base = "http://" + addr
	s.metrics = s.base + "/metrics"
}

func (s *server) start(t *testing.T, env []string, verb string, workers int, flags []string, argv ...string) {
	t.Helper()
	s.startBinary(t, onescrape, env, verb, workers, flags, argv...)
}

// startBinary is start with another path to the command.
func (s *server) startBinary(t *testing.T, binary string, env []string, verb string, workers int, flags []string,
	argv ...string) {
	t.Helper()
	args := []string{verb, "--workers", fmt.Sprint(workers)}
	for _, f := range [][2]string{
		{"--web.listen-address", strings.TrimPrefix(s.base, "http://")}, {"--listen", s.app}, {"--store.path", s.store},
	} {
		if !slices.Contains(flags, f[0]) {
			args = append(args, f[0], f[1])
		}
	}
	args = append(append(args, flags...), argv...)
	s.process = launch(t, exec.Command(binary, args...), env...)
}

// waitReady waits until all workers are.
func (s *server) waitReady() {
	s.t.Helper()
	eventually(s.t, "readiness", func() bool {
		require.True(s.t, s.alive(), "it ended while it was waited for: %s", s.stderr.String())
		code, _, err := get(s.base + "/-/ready")
		return err == nil && code == http.StatusOK
	})
}

// status is what the master says of itself.
func (s *server) status() master.Status {
	s.t.Helper()
	_, body, err := get(s.base + "/api/v1/status")
	require.NoError(s.t, err)
	var st master.Status
	require.NoError(s.t, json.Unmarshal(body, &st), "%s", body)
	return st
}

// workers are the pids of those that are ready.
func (s *server) workers() []int {
	s.t.Helper()
	var pids []int
	for _, slot := range s.status().Slots {
		if slot.State == "ready" {
			pids = append(pids, slot.PID)
		}
	}
	return pids
}

// pids are those of the slots' processes.
func pids(slots []master.Slot) (pids []int) {
	for _, slot := range slots {
		pids = append(pids, slot.PID)
	}
	return pids
}

// get reads a page whole, without keeping the connection.
func get(url string) (int, []byte, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Close = true
	client := &http.Client{Timeout: deadline}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}
