package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
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

// loss is what workers lose while they are scraped ten times a second.
type loss struct {
	Work  work
	Bytes int // that they hash before each increment
	// Of the increments that they make on a busy machine, as shares: what they make fewer at the same time of the
	// processor, and the time of all processors that the scrapes take.
	Slower, Scrapes float64
	Pairs           int // of stretches: with scrapes, and without
}

// spins is what a spinning process says of one stretch.
type spins struct {
	Increments, CPU int64
}

// spin is a process that has all workers of some work, whose counters it adds to as fast as it can, on all processors.
// For each line "spin N BYTES" it does so for N milliseconds, and hashes so many bytes before each increment, as a stand-in
// for what a worker does besides counting.
func spin(dir string, w work) error {
	cells, err := fill(dir, w)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		var ms, size int
		if _, err := fmt.Scanf("spin %d %d\n", &ms, &size); err != nil {
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
				n, input := int64(0), make([]byte, size)
				for ; !over.Load(); n += 64 {
					for range 64 {
						if size > 0 {
							sum := sha256.Sum256(input)
							copy(input, sum[:])
						}
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

// measureLoss has workers count in stretches, in every other of which they are scraped.
func measureLoss(w work, size, pairs int, stretch time.Duration, base string) (l loss, err error) {
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
	var ratios, shares []float64
	command := fmt.Sprintf("spin %d %d", stretch.Milliseconds(), size)
	alone := func() (speed float64, err error) {
		var did spins
		err = worker.ask(command, &did)
		return did.perCPU(), err
	}
	watched := func() (speed float64, err error) {
		var did spins
		done := make(chan error, 1)
		began := time.Now()
		go func() { done <- worker.ask(command, &did) }()
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		scrapes := int64(0)
		for {
			select {
			case err = <-done:
				shares = append(shares, float64(scrapes)/float64(time.Since(began))/float64(runtime.NumCPU()))
				return did.perCPU(), err
			case <-ticker.C:
				c, err := s.scrape(1)
				if err != nil {
					return 0, errors.Join(err, <-done)
				}
				scrapes += c.CPU
			}
		}
	}
	for i := range pairs {
		// By turns, because a machine gets faster or slower by itself.
		both := []func() (float64, error){alone, watched}
		var speeds [2]float64
		for j := range both {
			which := (i + j) % 2
			if speeds[which], err = both[which](); err != nil {
				return l, err
			}
		}
		ratios = append(ratios, speeds[1]/speeds[0])
	}
	slices.Sort(ratios)
	slices.Sort(shares)
	return loss{w, size, 1 - ratios[pairs/2], shares[pairs/2], pairs}, nil
}

func (s spins) perCPU() float64 { return float64(s.Increments) / float64(s.CPU) }
