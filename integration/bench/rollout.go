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

// rollout is what the first scrape after a change of the workers takes, beside those before it.
type rollout struct {
	Work work
	// All workers were replaced a second ago and are folded; one worker has ended and is folded.
	All, One change
}

// change is what a change costs the next scrape.
type change struct {
	Steady, First time.Duration // medians
	CPU           float64       // of the processor's time, the first as a multiple of a steady one
}

// rolling is the store of a rollout with what acts on it.
type rolling struct {
	dir     string
	holder  *scraper // all workers but one
	folder  *aggregate.Store
	scraper *scraper
}

// measureRollout changes the workers of a store again and again: new ones start, the old ones die and are folded, and
// then comes the first scrape that sees it, by a scraper that has read the store all the time.
func measureRollout(w work, times int, pause time.Duration, base string) (r rollout, err error) {
	ro := rolling{dir: filepath.Join(base, "rollout")}
	r.Work = w
	if err := os.Mkdir(ro.dir, 0o700); err != nil {
		return r, err
	}
	defer os.RemoveAll(ro.dir)
	if ro.holder, err = ro.start("hold", w); err != nil {
		return r, err
	}
	defer func() { ro.holder.stop() }()
	if ro.folder, err = aggregate.Open(ro.dir, aggregate.Options{Logger: slog.New(slog.DiscardHandler)}); err != nil {
		return r, err
	}
	defer ro.folder.Close()
	if ro.scraper, err = ro.start(ours, w); err != nil {
		return r, err
	}
	defer ro.scraper.stop()
	if _, err := ro.scraper.scrape(1); err != nil {
		return r, err
	}
	r.All, err = ro.measure(times, func() error {
		next, err := ro.start("hold", w)
		if err != nil {
			return err
		}
		ro.holder.stop()
		ro.holder = next
		time.Sleep(pause)
		return ro.fold(w.Workers)
	})
	if err != nil {
		return r, err
	}
	r.One, err = ro.measure(times, func() error {
		one := w
		one.Workers = 1
		next, err := ro.start("hold", one)
		if err != nil {
			return err
		}
		if _, err := ro.scraper.scrape(2); err != nil { // it knows the worker
			return err
		}
		next.stop()
		return ro.fold(1)
	})
	return r, err
}

func (ro *rolling) start(role string, w work) (*scraper, error) {
	argv, env := asRole(role, ro.dir, w)
	return startScraper(role, argv, env)
}

// fold folds so many dead workers. A lock may outlast its process by some milliseconds.
func (ro *rolling) fold(workers int) error {
	for folded, late := 0, time.Now().Add(10*time.Second); folded < workers; time.Sleep(time.Millisecond) {
		n, err := ro.folder.Fold(context.Background())
		if err != nil {
			return err
		}
		if folded += n; folded < workers && time.Now().After(late) {
			return fmt.Errorf("of %d dead workers %d were folded", workers, folded)
		}
	}
	return nil
}

// measure makes a change so often, each time with steady scrapes before it.
func (ro *rolling) measure(times int, do func() error) (change, error) {
	var steady, first []int64
	var steadyCPU, firstCPU int64
	for range times {
		// The values of the dead count on, so the next has one worker's more; nothing else changes.
		if _, err := ro.scraper.scrape(1); err != nil {
			return change{}, err
		}
		c, err := ro.scraper.scrape(10)
		if err != nil {
			return change{}, err
		}
		steady, steadyCPU = append(steady, c.Wall...), steadyCPU+c.CPU
		if err := do(); err != nil {
			return change{}, err
		}
		if c, err = ro.scraper.scrape(1); err != nil {
			return change{}, err
		}
		first, firstCPU = append(first, c.Wall...), firstCPU+c.CPU
	}
	perScrape := float64(len(steady)) / float64(len(first))
	return change{median(steady), median(first), float64(firstCPU) / float64(steadyCPU) * perScrape}, nil
}

func median(ns []int64) time.Duration {
	slices.Sort(ns)
	return time.Duration(ns[len(ns)/2])
}
