package main

import (
	"fmt"
	"strconv"
)

// work is what is measured: so many workers that have so many series each, all with the same values.
type work struct {
	Kind    string // one of kinds
	Workers int
	Series  int
}

const (
	whole      = "counters"
	fractions  = "fractions" // counters of them
	histograms = "histograms"
)

const (
	counterName   = "bench_requests_total"
	histogramName = "bench_duration_seconds"
	help          = "What is measured."
)

var (
	labelNames = []string{"code", "route"}
	bounds     = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
)

func (w work) String() string { return fmt.Sprintf("%d x %d %s", w.Workers, w.Series, w.Kind) }

// args are what a peer is told.
func (w work) args() []string {
	return []string{w.Kind, strconv.Itoa(w.Workers), strconv.Itoa(w.Series)}
}

// parseWork is the inverse of args.
func parseWork(args []string) (w work, err error) {
	if len(args) != 3 {
		return w, fmt.Errorf("%q are not a kind, workers and series", args)
	}
	w.Kind = args[0]
	if w.Workers, err = strconv.Atoi(args[1]); err == nil {
		w.Series, err = strconv.Atoi(args[2])
	}
	return w, err
}

// labels of series i.
func labels(i int) []string {
	return []string{"code" + strconv.Itoa(i%10), "/route/" + strconv.Itoa(i/10)}
}

// count is what each worker has counted in counter i.
func (w work) count(i int) float64 {
	if w.Kind == fractions {
		return float64(i+1) * .1
	}
	return float64(3*i + 1)
}

// observed is what each worker has observed in histogram i.
func observed(i int) []float64 { return []float64{.003, float64(i%10) / 8, 12} }

// matrix is all work in the order of the table.
func matrix(short bool) (all []work) {
	if short {
		return []work{{whole, 2, 200}, {fractions, 2, 200}, {histograms, 2, 20}}
	}
	for _, series := range []int{1_000, 10_000, 100_000} {
		for _, workers := range []int{1, 8, 32} {
			all = append(all, work{whole, workers, series})
		}
	}
	for _, kind := range []string{fractions, histograms} {
		for _, workers := range []int{1, 8, 32} {
			series := 10_000
			if kind == histograms {
				series = 1_000
			}
			all = append(all, work{kind, workers, series})
		}
	}
	return all
}
