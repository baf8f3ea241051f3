package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// loss is what workers lose while they are scraped.
type loss struct {
	Work    work
	Lost    float64 // share of their increments, at the same time of the processor
	Scraper float64 // share of the machine's processors that the scrapes take
}

// spins is what a spinning process says of one stretch.
type spins struct {
	Increments, CPU int64
}

// spin is a process that has all workers of some work, whose counters it adds to as fast as it can, on all processors.
// For each line "spin N" it does so for N milliseconds.
func spin(dir string, w work) error {
	cells, err := fill(dir, w)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		var ms int
		if _, err := fmt.Scanf("spin %d\n", &ms); err != nil {
			return nil // nobody asks any more
		}
		var s spins
		var group sync.WaitGroup
		var over atomic.Bool
		time.AfterFunc(time.Duration(ms)*time.Millisecond, func() { over.Store(true) })
		before := cpuTime()
		for range runtime.GOMAXPROCS(0) {
			group.Go(func() {
				r := rand.New(rand.NewPCG(rand.Uint64(), 1))
				n := int64(0)
				for ; !over.Load(); n += 64 {
					for range 64 {
						atomic.AddUint64(&cells[r.IntN(len(cells))][0], 1)
					}
				}
				atomic.AddInt64(&s.Increments, n)
			})
		}
		group.Wait()
		s.CPU = cpuTime() - before
		json.NewEncoder(os.Stdout).Encode(s)
	}
}

// measureLoss has workers count in stretches, in every other of which they are scraped ten times a second.
func measureLoss(w work, stretches int, stretch time.Duration, base string) (l loss, err error) {
	dir := filepath.Join(base, "spin")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return l, err
	}
	defer os.RemoveAll(dir)
	start := func(role string) (*scraper, error) {
		argv, env := asRole(role, dir, w)
		return startScraper(role, argv, env)
	}
	worker, err := start("spin")
	if err != nil {
		return l, err
	}
	defer worker.stop()
	s, err := start(ours)
	if err != nil {
		return l, err
	}
	defer s.stop()
	if _, err := s.scrape(1); err != nil {
		return l, err
	}
	var ratios []float64
	var scraped, passed int64
	for range stretches {
		var alone, watched spins
		command := fmt.Sprintf("spin %d", stretch.Milliseconds())
		if err := worker.ask(command, &alone); err != nil {
			return l, err
		}
		done := make(chan error, 1)
		began := time.Now()
		go func() { done <- worker.ask(command, &watched) }()
		ticker := time.NewTicker(100 * time.Millisecond)
		for running := true; running; {
			select {
			case err = <-done:
				running = false
			case <-ticker.C:
				c, e := s.scrape(1)
				if e != nil {
					return l, e
				}
				scraped += c.CPU
			}
		}
		ticker.Stop()
		if err != nil {
			return l, err
		}
		passed += time.Since(began).Nanoseconds()
		ratios = append(ratios, perCPU(watched)/perCPU(alone))
	}
	slices.Sort(ratios)
	return loss{w, 1 - ratios[len(ratios)/2], float64(scraped) / float64(passed) / float64(runtime.NumCPU())}, nil
}

func perCPU(s spins) float64 { return float64(s.Increments) / float64(s.CPU) }
