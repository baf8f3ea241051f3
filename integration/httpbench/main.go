// Command httpbench measures what the default HTTP metrics cost a prefork server under load, on Linux: requests per
// second with them and without, by wrk (Debian: apt-get install wrk), in alternating runs, because a machine is never
// as fast as a minute ago.
//
//	go run ./integration/httpbench -rounds 10 -duration 2s
//
// It prints each round, the requests per second and the processor time that the server takes for each, and at the end
// the ratios of the medians. Where other programs want the processor too, the processor time is the steadier of the
// two. It exits with 1 when it could not measure, and never because of what it measured.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master"
	"github.com/onescrape/onescrape/worker"
	"github.com/onescrape/onescrape/worker/httpmetrics"
)

var (
	rounds      = flag.Int("rounds", 10, "how often each server is loaded")
	duration    = flag.Duration("duration", 2*time.Second, "how long a run takes, in whole seconds")
	connections = flag.Int("connections", 16, "connections of wrk")
	threads     = flag.Int("threads", 1, "threads of wrk")
	workers     = flag.Int("workers", 0, "workers of each server; 0: one a CPU")

	serve   = flag.String("serve", "", "be the server: plain or measured; used by the program itself")
	listen  = flag.String("listen", "", "address of that server")
	metrics = flag.String("metrics", "", "address of its metrics")
	store   = flag.String("store", "", "its store")
)

func main() {
	flag.Parse()
	do := measure
	if *serve != "" {
		do = runServer
	}
	if err := do(); err != nil {
		log.Fatal(err)
	}
}

// body is a small answer, as an API gives one: the smaller, the more the metrics count.
var body = []byte("{\"ok\":true}\n")

func runServer() error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /job/{kind}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	})
	return master.Run(master.Config{
		Listen: []string{*listen}, MetricsListen: *metrics, Store: *store, Workers: *workers,
	}, func(_ context.Context, w *worker.Worker) error {
		var h http.Handler = mux
		if *serve == "measured" {
			h = httpmetrics.Wrap(mux)
		}
		return w.Serve(&http.Server{Handler: h})
	})
}

// run is what a server did in one round.
type run struct {
	rate float64       // requests per second
	cost time.Duration // processor time of the server, for each request
}

// server is one that is loaded.
type server struct {
	url     string
	status  string // URL of the master's status
	stop    func()
	results []run
}

// measure loads both servers in turn.
func measure() error {
	dir, err := os.MkdirTemp("", "onescrape-httpbench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var servers []*server // without, and with metrics
	for _, kind := range []string{"plain", "measured"} {
		s, err := start(kind, filepath.Join(dir, kind))
		if err != nil {
			return err
		}
		defer s.stop()
		servers = append(servers, s)
		if _, err := s.load(time.Second); err != nil { // to get warm
			return err
		}
	}
	plain, measured := servers[0], servers[1]
	for i := range *rounds {
		// Each goes first in every other round.
		order := []*server{plain, measured}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, s := range order {
			r, err := s.load(*duration)
			if err != nil {
				return err
			}
			s.results = append(s.results, r)
		}
		p, m := plain.results[i], measured.results[i]
		fmt.Printf("round %2d  plain %7.0f/s %6v  measured %7.0f/s %6v  %.3f\n", i+1,
			p.rate, p.cost.Round(10*time.Nanosecond), m.rate, m.cost.Round(10*time.Nanosecond), m.rate/p.rate)
	}
	rate := func(r run) float64 { return r.rate }
	cost := func(r run) float64 { return float64(r.cost) }
	var ratios []float64
	for i := range plain.results {
		ratios = append(ratios, measured.results[i].rate/plain.results[i].rate)
	}
	fmt.Printf("requests per second, measured / plain: %.3f of the medians, %.3f the median of the rounds\n",
		median(measured.of(rate))/median(plain.of(rate)), median(ratios))
	fmt.Printf("processor time of the server for each: %.3f of the medians, %.3f of the least\n",
		median(measured.of(cost))/median(plain.of(cost)), slices.Min(measured.of(cost))/slices.Min(plain.of(cost)))
	return nil
}

func (s *server) of(what func(run) float64) (values []float64) {
	for _, r := range s.results {
		values = append(values, what(r))
	}
	return values
}

// load is one round.
func (s *server) load(d time.Duration) (run, error) {
	before, err := s.processorTime()
	if err != nil {
		return run{}, err
	}
	n, rate, err := wrk(s.url, d)
	if err != nil {
		return run{}, err
	}
	after, err := s.processorTime()
	return run{rate, (after - before) / time.Duration(n)}, err
}

// processorTime is what the workers have used since they were started.
func (s *server) processorTime() (time.Duration, error) {
	resp, err := http.Get(s.status)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var status master.Status
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		return 0, err
	}
	ticks := 0
	for _, slot := range status.Slots {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", slot.PID))
		if err != nil {
			return 0, err
		}
		// The 14th and 15th field of proc(5), user and system time, counted after the name, which may have spaces.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		for _, f := range fields[11:13] {
			n, err := strconv.Atoi(f)
			if err != nil {
				return 0, err
			}
			ticks += n
		}
	}
	const ticksPerSecond = 100 // of Linux, on every platform that there is
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// start starts a server of this program and waits until it is ready.
func start(kind, store string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addr, err := free()
	if err != nil {
		return nil, err
	}
	scrape, err := free()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-serve", kind, "-listen", addr, "-metrics", scrape, "-store", store,
		"-workers", strconv.Itoa(*workers))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := func() {
		cmd.Process.Signal(syscall.SIGINT)
		cmd.Wait()
	}
	for range 1000 {
		resp, err := http.Get("http://" + scrape + "/-/ready")
		if err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return &server{url: "http://" + addr + "/job/clean", status: "http://" + scrape + "/api/v1/status",
					stop: stop}, nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	return nil, fmt.Errorf("the server %s is not ready: %s", kind, &said)
}

// free is an address on loopback where nobody listens.
func free() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

var (
	requests = regexp.MustCompile(`(\d+) requests in`)
	perSec   = regexp.MustCompile(`Requests/sec: +([0-9.]+)`)
	unwanted = regexp.MustCompile(`(?m)^ +(Socket errors|Non-2xx).*$`)
)

// wrk loads a URL and returns how many requests were answered, in all and per second.
func wrk(url string, d time.Duration) (n int, rate float64, err error) {
	out, err := exec.Command("wrk", "-t", strconv.Itoa(*threads), "-c", strconv.Itoa(*connections), "-d",
		fmt.Sprintf("%ds", max(1, int(d.Seconds()))), url).CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("wrk: %w: %s", err, out)
	}
	if bad := unwanted.Find(out); bad != nil {
		return 0, 0, fmt.Errorf("wrk: not all requests were answered well: %s", bad)
	}
	all, each := requests.FindSubmatch(out), perSec.FindSubmatch(out)
	if all == nil || each == nil {
		return 0, 0, errors.New("wrk: no numbers: " + string(out))
	}
	if n, err = strconv.Atoi(string(all[1])); err == nil {
		rate, err = strconv.ParseFloat(string(each[1]), 64)
	}
	return n, rate, err
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
