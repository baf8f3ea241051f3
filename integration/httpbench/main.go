// Command httpbench measures what the default HTTP metrics cost a prefork server under load: requests per second with them
// and without, by wrk (Debian: apt-get install wrk), in alternating runs, because a machine is never as fast as a minute
// ago.
//
//	go run ./integration/httpbench -rounds 10 -duration 2s
//
// It prints each round and the ratio of the medians, and of the best rounds. It exits with 1 when it could not measure, and
// never because of what it measured.
package main

import (
	"bytes"
	"context"
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
	run := measure
	if *serve != "" {
		run = runServer
	}
	if err := run(); err != nil {
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

// measure loads both servers in turn.
func measure() error {
	dir, err := os.MkdirTemp("", "onescrape-httpbench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	kinds := []string{"plain", "measured"}
	urls := map[string]string{}
	rates := map[string][]float64{}
	for _, kind := range kinds {
		addr, stop, err := start(kind, filepath.Join(dir, kind))
		if err != nil {
			return err
		}
		defer stop()
		urls[kind] = "http://" + addr + "/job/clean"
		if _, err := wrk(urls[kind], time.Second); err != nil { // warm
			return err
		}
	}
	for i := range *rounds {
		// Each goes first in every other round.
		order := slices.Clone(kinds)
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, kind := range order {
			rate, err := wrk(urls[kind], *duration)
			if err != nil {
				return err
			}
			rates[kind] = append(rates[kind], rate)
		}
		plain, measured := rates["plain"][i], rates["measured"][i]
		fmt.Printf("round %2d  plain %8.0f/s  measured %8.0f/s  %.3f\n", i+1, plain, measured, measured/plain)
	}
	var ratios []float64
	for i, plain := range rates["plain"] {
		ratios = append(ratios, rates["measured"][i]/plain)
	}
	fmt.Printf("measured / plain: %.3f of the medians, %.3f of the best, %.3f the median of the rounds\n",
		median(rates["measured"])/median(rates["plain"]), slices.Max(rates["measured"])/slices.Max(rates["plain"]),
		median(ratios))
	return nil
}

// start starts a server of this program and waits until it is ready.
func start(kind, store string) (addr string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	addr, err = free()
	if err != nil {
		return "", nil, err
	}
	scrape, err := free()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(self, "-serve", kind, "-listen", addr, "-metrics", scrape, "-store", store,
		"-workers", strconv.Itoa(*workers))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		cmd.Process.Signal(syscall.SIGINT)
		cmd.Wait()
	}
	for range 1000 {
		resp, err := http.Get("http://" + scrape + "/-/ready")
		if err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return addr, stop, nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	return "", nil, fmt.Errorf("the server %s is not ready: %s", kind, &said)
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
	rate     = regexp.MustCompile(`Requests/sec: +([0-9.]+)`)
	unwanted = regexp.MustCompile(`(?m)^ +(Socket errors|Non-2xx).*$`)
)

// wrk loads a URL and returns the requests per second.
func wrk(url string, d time.Duration) (float64, error) {
	out, err := exec.Command("wrk", "-t", strconv.Itoa(*threads), "-c", strconv.Itoa(*connections), "-d",
		fmt.Sprintf("%ds", max(1, int(d.Seconds()))), url).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w: %s", err, out)
	}
	if bad := unwanted.Find(out); bad != nil {
		return 0, fmt.Errorf("wrk: not all requests were answered well: %s", bad)
	}
	m := rate.FindSubmatch(out)
	if m == nil {
		return 0, errors.New("wrk: no rate: " + string(out))
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
