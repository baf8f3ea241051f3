package master

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/worker/logqueue"
)

// counters are the master's own metrics. They do not live in a registry of the process but beside the status in the
// store's lock file, written before a scrape can show them: so they count on over an upgrade in place and over a master
// that was killed. Safe for concurrent use.
type counters struct {
	mu       sync.Mutex
	total    totals         // guarded by mu
	workers  map[string]int // by state, guarded by mu; so are the following
	target   int
	lost     int // workers without store
	ready    bool
	steering bool
	status   Status
	lock     *shmstore.Lock
	// possessions are those of this master, or of the last one until this one has any.
	possessions *possessions
	store       *aggregate.Store // what is scraped; nil when there is no store
	log         *slog.Logger
	written     []byte
	failed      bool

	logBefore uint64 // log lines that the masters before this process dropped
}

// totals is what only grows.
type totals struct {
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

// distribution is a histogram; Counts has one more element than there are bounds.
type distribution struct {
	Counts []uint64 `json:"counts,omitempty"`
	Sum    float64  `json:"sum,omitempty"`
}

var (
	scrapeBounds  = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	rollingBounds = []float64{.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}
	rolloutKinds  = []string{"reload", "upgrade"}
)

func (d *distribution) observe(bounds []float64, v float64) {
	if len(d.Counts) != len(bounds)+1 {
		*d = distribution{Counts: make([]uint64, len(bounds)+1)}
	}
	i := 0
	for i < len(bounds) && v > bounds[i] {
		i++
	}
	d.Counts[i]++
	d.Sum += v
}

func (d *distribution) metric(desc *prometheus.Desc, bounds []float64, labels ...string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(bounds))
	var n uint64
	for i, b := range bounds {
		if i < len(d.Counts) {
			n += d.Counts[i]
		}
		buckets[b] = n
	}
	if len(d.Counts) == len(bounds)+1 {
		n += d.Counts[len(bounds)]
	}
	return prometheus.MustNewConstHistogram(desc, n, d.Sum, buckets, labels...)
}

// newCounters goes on from what the last master on the store left; nil when it left nothing.
func newCounters(last []byte, log *slog.Logger) *counters {
	c := &counters{log: log, workers: map[string]int{}}
	var kept struct {
		Counters totals `json:"counters"`
	}
	if json.Unmarshal(last, &kept) == nil {
		c.total = kept.Counters
	}
	if c.total.Restarts == nil {
		c.total.Restarts = map[string]uint64{}
	}
	if c.total.Rollouts == nil {
		c.total.Rollouts = map[string]uint64{}
	}
	if c.total.Rolling == nil {
		c.total.Rolling = map[string]*distribution{}
	}
	c.logBefore = c.total.LogDropped
	return c
}

func (c *counters) restart(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total.Restarts[reason]++
}

func (c *counters) storeMoved() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total.StoreMoved++
}

func (c *counters) rollout(kind, result string, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total.Rollouts[kind+" "+result]++
	d := c.total.Rolling[kind]
	if d == nil {
		d = &distribution{}
		c.total.Rolling[kind] = d
	}
	d.observe(rollingBounds, took.Seconds())
}

// scrape names the store that is scraped from now on.
func (c *counters) scrape(store *aggregate.Store) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store = store
}

// storeTotals returns what the store's metrics go on from.
func (c *counters) storeTotals() aggregate.Totals {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total.Store
}

// scraped counts a scrape that was answered, and keeps what it may have shown.
func (c *counters) scraped(took time.Duration) {
	c.mu.Lock()
	store := c.store
	c.mu.Unlock()
	var counted aggregate.Totals
	if store != nil {
		counted = store.Totals() // waits for a scrape that is under way, and mu must not
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if store != nil {
		c.total.Store = counted
	}
	c.total.Scrapes.observe(scrapeBounds, took.Seconds())
	c.total.LogDropped = c.logBefore + logqueue.Dropped()
	c.save()
}

// observe takes the gauges from the control goroutine's state.
func (c *counters) observe(s *supervisor, st Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.workers)
	for _, sl := range st.Slots {
		c.workers[sl.State]++
	}
	c.target, c.lost, c.ready, c.steering = st.Workers, 0, st.Ready, st.Steering == "on"
	for _, p := range s.processes {
		if p.storeless {
			c.lost++
		}
	}
	c.total.LogDropped = c.logBefore + logqueue.Dropped()
	c.status, c.lock, c.possessions = st, s.lock, s.possessions()
	c.save()
}

// hold keeps the last master's possessions in the store until this master has its own. The lock has erased them.
func (c *counters) hold(lock *shmstore.Lock, p *possessions) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = Status{PID: os.Getpid(), Version: version, Started: time.Now(), Steering: "off: starting",
		Addresses: []string{}, Slots: []Slot{}}
	c.lock, c.possessions = lock, p
	c.save()
}

// lockLimit is how much text the store's lock file takes.
const lockLimit = 64 << 10

// save writes status and totals, when they have changed. The caller holds mu.
func (c *counters) save() {
	if c.lock == nil {
		return
	}
	kept := struct {
		Status
		Counters    *totals      `json:"counters"`
		Possessions *possessions `json:"possessions,omitempty"`
	}{c.status, &c.total, c.possessions}
	text := marshal(kept)
	if len(text) > lockLimit {
		kept.Slots = slices.Clone(kept.Slots)
		for i := range kept.Slots {
			kept.Slots[i].Text, kept.Slots[i].LastExit = "", ""
		}
		text = marshal(kept)
	}
	if len(text) > lockLimit {
		kept.Slots = nil // the endpoint has them
		text = marshal(kept)
	}
	if len(text) > lockLimit {
		totals := c.total
		totals.Store.Conflicts = nil
		kept.Counters = &totals
		text = marshal(kept)
	}
	if bytes.Equal(text, c.written) {
		return
	}
	if err := c.lock.SetStatus(text); err != nil {
		if !c.failed {
			c.log.Error("the store does not take the master's status: commands such as reload do not see it", "err", err)
		}
		c.failed = true
		return
	}
	c.written, c.failed = text, false
}

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
func (c *counters) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descWorkers, descTarget, descLost, descReady, descSteering, descRestarts,
		descRollouts, descRolling, descScrapes, descLogDropped, descStoreMoved, descBuild} {
		out <- d
	}
}

// Collect is prometheus.Collector's.
func (c *counters) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	value := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	flag := map[bool]float64{true: 1}
	for _, st := range states {
		value(descWorkers, prometheus.GaugeValue, float64(c.workers[st]), st)
	}
	value(descTarget, prometheus.GaugeValue, float64(c.target))
	value(descLost, prometheus.GaugeValue, float64(c.lost))
	value(descReady, prometheus.GaugeValue, flag[c.ready])
	value(descSteering, prometheus.GaugeValue, flag[c.steering])
	for _, r := range restartReasons {
		value(descRestarts, prometheus.CounterValue, float64(c.total.Restarts[r]), r)
	}
	for _, kind := range rolloutKinds {
		for _, result := range [...]string{done, abandoned} {
			value(descRollouts, prometheus.CounterValue, float64(c.total.Rollouts[kind+" "+result]), kind, result)
		}
		d := c.total.Rolling[kind]
		if d == nil {
			d = &distribution{}
		}
		out <- d.metric(descRolling, rollingBounds, kind)
	}
	out <- c.total.Scrapes.metric(descScrapes, scrapeBounds)
	value(descLogDropped, prometheus.CounterValue, float64(c.total.LogDropped))
	value(descStoreMoved, prometheus.CounterValue, float64(c.total.StoreMoved))
	value(descBuild, prometheus.GaugeValue, 1, version, revision, runtime.Version())
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
