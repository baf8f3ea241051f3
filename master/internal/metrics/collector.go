package metrics

import (
	"maps"
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descWorkers = prometheus.NewDesc("onescrape_workers", "Slots by their state.", []string{"state"}, nil)
	descTarget  = prometheus.NewDesc("onescrape_workers_target", "How many workers there are to be.", nil, nil)
	descLost    = prometheus.NewDesc("onescrape_workers_without_store",
		"Workers that could not use the store; their metrics die with them.", nil, nil)
	descReady    = prometheus.NewDesc("onescrape_ready", "1 while /-/ready answers 200.", nil, nil)
	descSteering = prometheus.NewDesc("onescrape_steering", "1 while new connections are steered to ready workers.",
		nil, nil)
	descRestarts = prometheus.NewDesc("onescrape_worker_restarts_total",
		"Workers that were replaced, by reason: exit, error and signal say how one ended by itself; the others why the "+
			"master replaced it.", []string{"reason"}, nil)
	descRollouts = prometheus.NewDesc("onescrape_rollouts_total", "Rolling restarts that ended, by kind and result.",
		[]string{"kind", "result"}, nil)
	descRolling = prometheus.NewDesc("onescrape_rollout_duration_seconds", "How long rolling restarts took.",
		[]string{"kind"}, nil)
	descScrapes = prometheus.NewDesc("onescrape_scrape_duration_seconds", "How long the scrapes before this one took.",
		nil, nil)
	descLogDropped = prometheus.NewDesc("onescrape_log_lines_dropped_total",
		"Lines of the master's log that were dropped because nobody read it in time.", nil, nil)
	descStoreMoved = prometheus.NewDesc("onescrape_store_moved_total",
		"How often the store was renamed, removed or replaced while the master had it open.", nil, nil)
	descBuild = prometheus.NewDesc("onescrape_build_info", "The program that is the master.",
		[]string{"version", "revision", "goversion"}, nil)
)

// Describe is prometheus.Collector's.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descWorkers, descTarget, descLost, descReady, descSteering, descRestarts,
		descRollouts, descRolling, descScrapes, descLogDropped, descStoreMoved, descBuild} {
		out <- d
	}
}

// Collect is prometheus.Collector's.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	flag := map[bool]float64{true: 1}
	for _, st := range slices.Sorted(maps.Keys(m.gauges.Workers)) {
		value(descWorkers, prometheus.GaugeValue, float64(m.gauges.Workers[st]), st)
	}
	value(descTarget, prometheus.GaugeValue, float64(m.gauges.Target))
	value(descLost, prometheus.GaugeValue, float64(m.gauges.WithoutStore))
	value(descReady, prometheus.GaugeValue, flag[m.gauges.Ready])
	value(descSteering, prometheus.GaugeValue, flag[m.gauges.Steering])
	for _, r := range RestartReasons {
		value(descRestarts, prometheus.CounterValue, float64(m.total.Restarts[r]), r)
	}
	for _, kind := range RolloutKinds {
		for _, result := range Results {
			value(descRollouts, prometheus.CounterValue, float64(m.total.Rollouts[kind+" "+result]), kind, result)
		}
		d := m.total.Rolling[kind]
		if d == nil {
			d = &distribution{}
		}
		out <- d.metric(descRolling, rollingBounds, kind)
	}
	out <- m.total.Scrapes.metric(descScrapes, scrapeBounds)
	value(descLogDropped, prometheus.CounterValue, float64(m.total.LogDropped))
	value(descStoreMoved, prometheus.CounterValue, float64(m.total.StoreMoved))
	value(descBuild, prometheus.GaugeValue, 1, m.version, revision, runtime.Version())
}

// revision is the commit that the program was built from, where the linker noted it.
var revision = func() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}()
