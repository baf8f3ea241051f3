// Package metrics has the master's own metrics. They do not live in a registry of the process: the master keeps their totals in
// the store, so they count on over an upgrade in place and over a master that was killed.
package metrics

import (
	"encoding/json"
	"maps"
	"sync"
	"time"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/worker/logqueue"
)

// Metrics are the master's own metrics, a prometheus.Collector. Safe for concurrent use.
type Metrics struct {
	version   string
	logBefore uint64 // log lines that the masters before this process dropped

	mu     sync.Mutex
	total  Totals // guarded by mu
	gauges Gauges // guarded by mu
}

// Totals is what only grows, as the store keeps it.
type Totals struct {
	Restarts map[string]uint64        `json:"restarts,omitempty"` // by reason
	Rollouts map[string]uint64        `json:"rollouts,omitempty"` // by kind and result
	Rolling  map[string]*distribution `json:"rolling,omitempty"`  // seconds by kind
	Scrapes  distribution             `json:"scrapes"`
	Store    aggregate.Totals         `json:"store"`
	// LogDropped counts the lines that the log did not take.
	LogDropped uint64 `json:"log_dropped,omitempty"`
	// StoreMoved counts how often the store left its path.
	StoreMoved uint64 `json:"store_moved,omitempty"`
}

// Gauges are the values of the moment.
type Gauges struct {
	Workers      map[string]int // slots by their state, with every state in it
	Target       int            // workers that there should be
	WithoutStore int            // workers without a store
	Ready        bool           // what /-/ready answers
	Steering     bool           // new connections are steered
}

var (
	// RestartReasons are the values of the label reason.
	RestartReasons = []string{"exit", "error", "signal", "watchdog", "not_ready", "recycle", "reload", "upgrade"}
	// RolloutKinds are the values of the label kind.
	RolloutKinds = []string{"reload", "upgrade"}
	// Results are the values of the label result.
	Results = []string{"done", "abandoned"}

	scrapeBounds  = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	rollingBounds = []float64{.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}
)

// New goes on from the status that the last master on the store left; nil when it left nothing. version is that of the program.
// lost is how many log lines were lost since then.
func New(last []byte, version string, lost int) *Metrics {
	m := &Metrics{version: version}
	var kept struct {
		Counters Totals `json:"counters"`
	}
	if json.Unmarshal(last, &kept) == nil {
		m.total = kept.Counters
	}
	if m.total.Restarts == nil {
		m.total.Restarts = map[string]uint64{}
	}
	if m.total.Rollouts == nil {
		m.total.Rollouts = map[string]uint64{}
	}
	if m.total.Rolling == nil {
		m.total.Rolling = map[string]*distribution{}
	}
	m.logBefore = m.total.LogDropped + uint64(lost)
	return m
}

// Restart counts a worker that was replaced, by reason.
func (m *Metrics) Restart(reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total.Restarts[reason]++
}

// StoreMoved counts that the store has left its path.
func (m *Metrics) StoreMoved() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total.StoreMoved++
}

// Rollout counts a rollout that has ended.
func (m *Metrics) Rollout(kind, result string, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total.Rollouts[kind+" "+result]++
	d := m.total.Rolling[kind]
	if d == nil {
		d = &distribution{}
		m.total.Rolling[kind] = d
	}
	d.observe(rollingBounds, took.Seconds())
}

// Scraped counts a scrape that was answered. store is what the store counted by then; nil when there is no store.
func (m *Metrics) Scraped(took time.Duration, store *aggregate.Totals) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if store != nil {
		m.total.Store = *store
	}
	m.total.Scrapes.observe(scrapeBounds, took.Seconds())
}

// Set sets the gauges.
func (m *Metrics) Set(g Gauges) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gauges = g
}

// StoreTotals returns what the store's metrics go on from.
func (m *Metrics) StoreTotals() aggregate.Totals {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total.Store
}

// Totals returns a copy of what only grows.
func (m *Metrics) Totals() Totals {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total.LogDropped = m.logBefore + logqueue.Dropped()
	out := m.total
	out.Restarts, out.Rollouts = maps.Clone(out.Restarts), maps.Clone(out.Rollouts)
	out.Rolling = make(map[string]*distribution, len(m.total.Rolling))
	for kind, d := range m.total.Rolling {
		out.Rolling[kind] = d.clone()
	}
	out.Scrapes = *m.total.Scrapes.clone()
	return out
}
