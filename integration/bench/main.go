package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func main() {
	log.SetFlags(0)
	if role := os.Getenv(roleEnv); role != "" {
		if err := beRole(role); err != nil {
			log.Fatalf("%s: %v", role, err)
		}
		return
	}
	short := flag.Bool("short", false, "take a few seconds, and prove only that it runs and that all sums are the same")
	largest := flag.Int("series", 100_000, "leave out work with more series a worker")
	only := flag.String("only", "", "measure only what this regular expression matches: rows such as \"8 x 10000 counters, protobuf\", "+
		strings.Join(sections, ", "))
	svg := flag.String("svg", "", "draw the scrapes to this file")
	modules := flag.String("node-modules", "node_modules", "where npm has installed prom-client")
	require := flag.Bool("require-peers", os.Getenv("ONESCRAPE_REQUIRE_PEERS") == "1", "fail where a peer is missing")
	flag.Parse()
	wanted, err := regexp.Compile(*only)
	if err != nil {
		log.Fatal(err)
	}
	r, err := run(*short, *largest, *modules, wanted.MatchString)
	if err == nil {
		err = r.print(os.Stdout)
	}
	if err == nil && *svg != "" {
		err = os.WriteFile(*svg, draw(r), 0o644)
	}
	for _, p := range r.Peers {
		if *require && p.missing != "" && err == nil {
			err = fmt.Errorf("%s is %s", p.name, p.missing)
		}
	}
	if err != nil {
		log.Fatal(err)
	}
}

// sections are what is measured beside the rows.
var sections = []string{"rollout", "churn", "loss", "servers", "hot path"}

// run measures everything that is wanted.
func run(short bool, largest int, modules string, wanted func(name string) bool) (r report, err error) {
	// In memory, as stores are.
	base, err := os.MkdirTemp("/dev/shm", "bench-onescrape-")
	if err != nil {
		if base, err = os.MkdirTemp("", "bench-onescrape-"); err != nil {
			return r, err
		}
	}
	defer os.RemoveAll(base)
	if modules, err = filepath.Abs(modules); err != nil {
		return r, err
	}
	r.Machine = machine()
	if r.Peers, err = findPeers(base, modules); err != nil {
		return r, err
	}
	pc := pace{budget: 3 * time.Second, least: 3, most: 15}
	if short {
		pc = pace{budget: 50 * time.Millisecond, least: 1, most: 2}
	}
	for _, w := range matrix(short) {
		if w.Series > largest || !wanted(w.String()) {
			continue
		}
		results, err := pc.bench(r.Peers, w, base)
		if err != nil {
			return r, err
		}
		r.Rows = append(r.Rows, results)
	}
	w, rounds, n, second := work{whole, 32, 10_000, textFormat}, 10, 1_000_000, time.Second
	if short {
		w, rounds, n, second = work{whole, 2, 200, textFormat}, 2, 1_000, 100*time.Millisecond
	}
	if wanted("rollout") {
		if r.Rollout, err = measureRollout(w, rounds, second, base); err != nil {
			return r, err
		}
	}
	sizes := []int{1_000, 10_000}
	if short {
		sizes = []int{100}
	}
	for _, series := range sizes {
		if !wanted("churn") {
			break
		}
		c := work{churned, 2, series, textFormat}
		result, err := measureChurn(c, rounds, second, base)
		if err != nil {
			return r, err
		}
		r.Churn = append(r.Churn, result)
	}
	for _, size := range []int{0, 4 << 10} {
		if !wanted("loss") {
			break
		}
		l, err := measureLoss(w, size, 3*rounds, second, base)
		if err != nil {
			return r, err
		}
		r.Losses = append(r.Losses, l)
	}
	if wanted("servers") {
		if r.Servers, err = measureServers(rounds/2, second, base); err != nil {
			return r, err
		}
	}
	if wanted("hot path") {
		r.Calls, err = measureHotPath(rounds, n, base)
	}
	return r, err
}
