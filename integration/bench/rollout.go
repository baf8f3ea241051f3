package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/onescrape/onescrape/aggregate"
)

// rollout is what the first scrape after all workers were replaced takes, beside the ones before.
type rollout struct {
	Work          work
	Steady, First time.Duration // medians
	CPU           float64       // of the processor's time, the first as a multiple of a steady one
}

// measureRollout replaces all workers of a store again and again: new ones start, the old ones die and are folded, and
// then comes the first scrape that sees it, by a scraper that has read the store all the time.
func measureRollout(w work, times int, base string) (r rollout, err error) {
	dir := filepath.Join(base, "rollout")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	start := func(role string) (*scraper, error) {
		argv, env := asRole(role, dir, w)
		return startScraper(role, argv, env)
	}
	holder, err := start("hold")
	if err != nil {
		return r, err
	}
	defer func() { holder.stop() }()
	folder, err := aggregate.Open(dir, aggregate.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return r, err
	}
	defer folder.Close()
	s, err := start(ours)
	if err != nil {
		return r, err
	}
	defer s.stop()
	if _, err := s.scrape(1); err != nil {
		return r, err
	}
	var steady, first []int64
	var steadyCPU, firstCPU int64
	for range times {
		c, err := s.scrape(10)
		if err != nil {
			return r, err
		}
		steady, steadyCPU = append(steady, c.Wall...), steadyCPU+c.CPU
		next, err := start("hold")
		if err != nil {
			return r, err
		}
		holder.stop()
		holder = next
		// A lock may outlast its process by some milliseconds.
		for folded, late := 0, time.Now().Add(10*time.Second); folded < w.Workers; {
			n, err := folder.Fold(context.Background())
			if err != nil {
				return r, err
			}
			if folded += n; time.Now().After(late) {
				return r, fmt.Errorf("of %d dead workers %d were folded", w.Workers, folded)
			}
			time.Sleep(time.Millisecond)
		}
		if c, err = s.scrape(1); err != nil {
			return r, err
		}
		first, firstCPU = append(first, c.Wall...), firstCPU+c.CPU
		// The values of the dead count on, so the next has one worker's more; nothing else changes.
		if _, err := s.scrape(1); err != nil {
			return r, err
		}
	}
	perScrape := float64(len(steady)) / float64(len(first))
	return rollout{w, median(steady), median(first), float64(firstCPU) / float64(steadyCPU) * perScrape}, nil
}

func median(ns []int64) time.Duration {
	slices.Sort(ns)
	return time.Duration(ns[len(ns)/2])
}
