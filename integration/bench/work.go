package main

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
)

// work is what is measured: so many workers that have so many series each, all with the same values.
type work struct {
	Kind    string // one of kinds
	Workers int
	Series  int
	Format  string // of the exposition, one of formats
}

const (
	whole      = "counters"
	fractions  = "fractions" // counters of them
	histograms = "histograms"
	natives    = "native histograms"
	churned    = "counters beside churn"
)

// The formats, and what a scraper asks for each.
const (
	textFormat  = "text"
	openMetrics = "OpenMetrics"
	protobuf    = "protobuf"
)

var accepts = map[string]string{
	textFormat:  "text/plain;version=0.0.4",
	openMetrics: "application/openmetrics-text;version=1.0.0",
	protobuf:    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
}

const (
	counterName   = "bench_requests_total"
	histogramName = "bench_duration_seconds"
	help          = "What is measured."
)

var (
	labelNames = []string{"code", "route"}
	bounds     = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
)

func (w work) String() string {
	return fmt.Sprintf("%d x %d %s, %s", w.Workers, w.Series, w.Kind, w.Format)
}

// isHistogram reports whether a series is a histogram of either kind.
func (w work) isHistogram() bool { return w.Kind == histograms || w.Kind == natives }

// samples is how many samples a series has in text.
func (w work) samples() int {
	switch w.Kind {
	case histograms:
		return len(bounds) + 3
	case natives:
		return 3
	}
	return 1
}

// args are what a peer is told.
func (w work) args() []string {
	return []string{w.Kind, strconv.Itoa(w.Workers), strconv.Itoa(w.Series), cmp.Or(w.Format, textFormat)}
}

// parseWork is the inverse of args.
func parseWork(args []string) (w work, err error) {
	if len(args) != 4 || accepts[args[3]] == "" {
		return w, fmt.Errorf("%q are not a kind, workers, series and a format", args)
	}
	w.Kind, w.Format = args[0], args[3]
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
func (w work) observed(i int) []float64 {
	if w.Kind == histograms {
		return []float64{.003, float64(i%10) / 8, 12}
	}
	out := make([]float64, nativeBuckets)
	for k := range out {
		out[k] = .001 * math.Pow(1.2, float64(k)) * (1 + float64(i%10)/100)
	}
	return out
}

// nativeBuckets is how many buckets a native histogram has in use.
const nativeBuckets = 50

// matrix is all work in the order of the table.
func matrix(short bool) (all []work) {
	if short {
		all = []work{{whole, 2, 200, textFormat}, {fractions, 2, 200, textFormat}, {histograms, 2, 20, textFormat}}
		for _, format := range []string{textFormat, openMetrics, protobuf} {
			all = append(all, work{natives, 2, 20, format})
		}
		return append(all, work{whole, 2, 200, openMetrics}, work{histograms, 2, 20, protobuf})
	}
	for _, series := range []int{1_000, 10_000, 100_000} {
		for _, workers := range []int{1, 8, 32} {
			all = append(all, work{whole, workers, series, textFormat})
		}
	}
	for _, kind := range []string{fractions, histograms} {
		for _, workers := range []int{1, 8, 32} {
			series := 10_000
			if kind == histograms {
				series = 1_000
			}
			all = append(all, work{kind, workers, series, textFormat})
		}
	}
	for _, format := range []string{openMetrics, protobuf} {
		all = append(all, work{whole, 8, 10_000, format}, work{histograms, 8, 1_000, format})
	}
	for _, format := range []string{textFormat, openMetrics, protobuf} {
		all = append(all, work{natives, 8, 1_000, format})
	}
	return all
}
