package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/prefork"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/master"
	"github.com/onescrape/onescrape/worker"
)

// served is how many requests a second a whole prefork server answers.
type served struct {
	Name      string
	PerSecond float64
}

// servers are those that are measured, each with a process a processor. The second of each kind counts its requests and
// observes how long they take, with two labels.
var servers = []struct {
	name, role string
}{
	{"net/http under onescrape's master", "serve"},
	{"the same, with its metrics", "serve-metrics"},
	{"fasthttp's prefork", "fasthttp"},
	{"the same, with onescrape's metrics", "fasthttp-metrics"},
}

func init() {
	roles["serve"] = func(dir string, _ work) error { return serve(dir, false) }
	roles["serve-metrics"] = func(dir string, _ work) error { return serve(dir, true) }
	roles["fasthttp"] = func(dir string, _ work) error { return serveFast(dir, false) }
	roles["fasthttp-metrics"] = func(dir string, _ work) error { return serveFast(dir, true) }
}

// addressEnv is where a server listens.
const addressEnv = "ONESCRAPE_BENCH_ADDRESS"

const greeting = "Hello, World!\n"

// requestMetrics are what both servers count.
func requestMetrics() (observe func(code, route string, took time.Duration)) {
	requests := worker.NewCounterVec(prometheus.CounterOpts{Name: counterName, Help: help}, labelNames)
	durations := worker.NewHistogramVec(prometheus.HistogramOpts{Name: histogramName, Help: help, Buckets: bounds}, labelNames)
	return func(code, route string, took time.Duration) {
		requests.WithLabelValues(code, route).Inc()
		durations.WithLabelValues(code, route).Observe(took.Seconds())
	}
}

// serve is master and worker of a server of net/http.
func serve(dir string, metrics bool) error {
	var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, greeting) })
	if metrics {
		observe, plain := requestMetrics(), handler
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			began := time.Now()
			plain.ServeHTTP(w, r)
			observe("200", r.URL.Path, time.Since(began))
		})
	}
	cfg := master.Config{Listen: []string{os.Getenv(addressEnv)}, MetricsListen: "off", Store: dir,
		Logger: slog.New(slog.DiscardHandler)}
	return master.Run(cfg, func(_ context.Context, w *worker.Worker) error {
		return w.Serve(&http.Server{Handler: handler})
	})
}

// serveFast is master and worker of a server of fasthttp.
func serveFast(dir string, metrics bool) error {
	handler := func(ctx *fasthttp.RequestCtx) { ctx.WriteString(greeting) }
	if metrics {
		if _, err := master.Embed(dir, aggregate.Options{Logger: slog.New(slog.DiscardHandler)}); err != nil {
			return err
		}
		observe, plain := requestMetrics(), handler
		handler = func(ctx *fasthttp.RequestCtx) {
			began := time.Now()
			plain(ctx)
			observe("200", string(ctx.Path()), time.Since(began))
		}
	}
	server := prefork.New(&fasthttp.Server{Handler: handler})
	server.Reuseport = true
	server.Logger = log.New(io.Discard, "", 0)
	return server.ListenAndServe(os.Getenv(addressEnv))
}

// clients is how many connections ask at once.
const clients = 16

// measureServers asks all servers by turns.
func measureServers(rounds int, round time.Duration, base string) ([]served, error) {
	type running struct {
		addr string
		took []float64
	}
	var all []*running
	for i, s := range servers {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		addr := l.Addr().String()
		l.Close()
		argv, env := asRole(s.role, filepath.Join(base, fmt.Sprint("server", i)), work{})
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), append(env, addressEnv+"="+addr)...)
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its workers end with it
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		defer func() {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			cmd.Wait()
		}()
		all = append(all, &running{addr: addr})
		if err := answers(addr); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for range rounds {
		for _, r := range all {
			n, took, err := ask(r.addr, round)
			if err != nil {
				return nil, err
			}
			r.took = append(r.took, float64(n)/took.Seconds())
		}
	}
	var results []served
	for i, r := range all {
		slices.Sort(r.took)
		results = append(results, served{servers[i].name, r.took[len(r.took)/2]})
	}
	return results, nil
}

// answers waits until a server answers.
func answers(addr string) (err error) {
	for late := time.Now().Add(20 * time.Second); time.Now().Before(late); time.Sleep(10 * time.Millisecond) {
		if _, _, err = ask(addr, time.Millisecond); err == nil {
			return nil
		}
	}
	return err
}

// ask sends requests from all clients at full speed, and returns how many were answered.
func ask(addr string, d time.Duration) (n int64, took time.Duration, err error) {
	var (
		group    sync.WaitGroup
		answered atomic.Int64
		errs     [clients]error
	)
	began := time.Now()
	for i := range clients {
		group.Go(func() {
			c, err := net.Dial("tcp4", addr)
			if err != nil {
				errs[i] = err
				return
			}
			defer c.Close()
			c.SetDeadline(began.Add(d + 10*time.Second))
			in := bufio.NewReader(c)
			for errs[i] == nil && time.Since(began) < d {
				if errs[i] = request(c, in); errs[i] == nil {
					answered.Add(1)
				}
			}
		})
	}
	group.Wait()
	return answered.Load(), time.Since(began), errors.Join(errs[:]...)
}

// request sends one and reads its answer, with as little work as can be, because it shares the processors.
func request(c net.Conn, in *bufio.Reader) error {
	if _, err := io.WriteString(c, "GET /hello HTTP/1.1\r\nHost: bench\r\n\r\n"); err != nil {
		return err
	}
	length := -1
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		text := strings.TrimSpace(string(line))
		if first && !strings.HasPrefix(text, "HTTP/1.1 200") {
			return fmt.Errorf("the answer is %q", text)
		}
		if text == "" {
			break
		}
		if value, ok := strings.CutPrefix(strings.ToLower(text), "content-length:"); ok {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return err
			}
		}
	}
	if length != len(greeting) {
		return fmt.Errorf("the answer has %d bytes", length)
	}
	_, err := in.Discard(length)
	return err
}
