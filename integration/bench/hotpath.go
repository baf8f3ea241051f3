package main

import (
	"path/filepath"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/worker"
)

// call is one that programs make for every request, and what it takes with each peer.
type call struct {
	Name string
	Took map[string]time.Duration // by peer, of a thousand, the least of all rounds
	each map[string]func(n int)
}

// measureHotPath makes calls by turns, with our own in a store.
func measureHotPath(rounds, n int, base string) ([]call, error) {
	d, err := shmstore.OpenDir(filepath.Join(base, "hot"), shmstore.DirOptions{Create: true})
	if err != nil {
		return nil, err
	}
	if err := d.Close(); err != nil {
		return nil, err
	}
	if err := worker.Open(d.Path()); err != nil {
		return nil, err
	}
	opts := func(name string) prometheus.CounterOpts { return prometheus.CounterOpts{Name: name, Help: help} }
	histogramOpts := prometheus.HistogramOpts{Name: histogramName, Help: help, Buckets: bounds}
	counter, peerCounter := worker.NewCounter(opts("bench_total")), prometheus.NewCounter(opts("bench_total"))
	vec, peerVec := worker.NewCounterVec(opts(counterName), labelNames), prometheus.NewCounterVec(opts(counterName), labelNames)
	histogram, peerHistogram := worker.NewHistogram(histogramOpts), prometheus.NewHistogram(histogramOpts)
	set := metrics.NewSet()
	setCounter, setHistogram := set.NewCounter("bench_total"), set.NewPrometheusHistogramExt(histogramName, bounds)
	l := labels(17)
	loop := func(fn func()) func(int) {
		return func(n int) {
			for range n {
				fn()
			}
		}
	}
	calls := []call{
		{Name: "Counter.Inc", each: map[string]func(int){
			ours:                      loop(func() { counter.Inc() }),
			"client_golang":           loop(func() { peerCounter.Inc() }),
			"VictoriaMetrics/metrics": loop(func() { setCounter.Inc() }),
		}},
		{Name: "CounterVec.WithLabelValues(2).Inc", each: map[string]func(int){
			ours:            loop(func() { vec.WithLabelValues(l[0], l[1]).Inc() }),
			"client_golang": loop(func() { peerVec.WithLabelValues(l[0], l[1]).Inc() }),
		}},
		{Name: "Histogram.Observe, 11 buckets", each: map[string]func(int){
			ours:                      loop(func() { histogram.Observe(.3) }),
			"client_golang":           loop(func() { peerHistogram.Observe(.3) }),
			"VictoriaMetrics/metrics": loop(func() { setHistogram.Update(.3) }),
		}},
	}
	for i := range calls {
		calls[i].Took = map[string]time.Duration{}
	}
	for range rounds {
		for _, c := range calls {
			for name, do := range c.each {
				began := time.Now()
				do(n)
				if took := time.Since(began) / time.Duration(n/1000); c.Took[name] == 0 || took < c.Took[name] {
					c.Took[name] = took
				}
			}
		}
	}
	return calls, nil
}
