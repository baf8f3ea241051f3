package worker

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore"
)

// ExportOptions say how Export publishes. The zero value is right for the default registry.
type ExportOptions struct {
	// Interval is how often the gatherer is asked; 0 is one second. It is stretched so that asking and publishing take no
	// more than 1 % of a core. What a worker's death loses is at the most what happened in the last interval.
	Interval time.Duration
	// Mode says how the values that several workers have of a gauge, or of an untyped family, become one. It is called
	// once a family; with nil, or where it returns 0 or what is no mode, DefaultExportMode decides.
	Mode func(family string, t dto.MetricType) GaugeMode
	// Skip leaves out the families for which it returns true; with a store it is called once a family. nil leaves out
	// none.
	Skip func(family string) bool
}

// Export publishes the metrics of a gatherer, which were made without this package: the default registry with the Go and
// process collectors, a library's own metrics, custom collectors. The scrape merges those of all workers:
//
//   - a counter adds up, and so do the buckets, _count and _sum of a histogram or summary. When one falls, because its
//     source began anew, the sum stays, and rises again with it
//   - of each quantile line of a summary the largest of the living workers' is exposed. No quantile of the whole server is
//     larger, but it can be smaller; NewSummary has those of the whole server
//   - gauges and untyped metrics merge by ExportOptions.Mode, else by DefaultExportMode. One that the gatherer no longer
//     has goes, anything else stays
//   - a histogram keeps the buckets that its family has at first; counts of others go to the next larger bound
//   - native buckets add up too, at no finer a resolution than the source ever had
//   - of each exemplar the newest of all workers' is exposed
//
// The gatherer is asked at once, then at an interval, when the worker says Ready and when it ends. So an exported metric
// loses up to one interval when its worker is killed; metrics of this package's constructors lose nothing. Without a store
// the gatherer is asked whenever Gatherer or Handler are asked, and its metrics are exposed unchanged.
//
// A family that was made by a constructor of this package, or that an earlier Export publishes, is left out, and so is what
// cannot be exposed. One log line says so, and one for an error of Gather. After such an error the families that were
// gathered are published, and the others stay.
//
// stop publishes once more and ends the export; what was published stays in the store. The same gatherer may be exported
// again then, and goes on. err is not nil, and stop does nothing, when g is nil, when it is exported already, and when it
// is this package's Gatherer or a Store, which have what is exported already. Export is safe for concurrent use; g's Gather
// is called from one goroutine at a time where there is a store.
func Export(g prometheus.Gatherer, o ExportOptions) (stop func(), err error) {
	return process.export(g, o)
}

// ExportDefault is Export of the default registry with the zero options, unless it is exported already. It is for packages
// that bring metrics along, such as httpmetrics, and leaves the last word to the program: an Export of the default registry
// that comes later takes its place, with its options. It first asks the registry when the worker says Ready, and after the
// interval, so what follows it at a program's start comes before that.
func ExportDefault() { process.exportImplied(prometheus.DefaultGatherer) }

func (r *registry) exportImplied(g prometheus.Gatherer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bindOnce()
	e := r.exporterOf(g)
	if e == nil {
		e = r.addExporter(g)
	}
	if e.publisher == nil {
		e.publisher, e.implied = r.addPublisher(publishEvery, e.publish), true
	}
}

// addExporter returns a new one for g. The caller holds the lock.
func (r *registry) addExporter(g prometheus.Gatherer) *exporter {
	e := &exporter{registry: r, gatherer: g, families: map[string]*exportedFamily{}}
	r.publishing.exporters = append(r.publishing.exporters, e)
	return e
}

func (r *registry) export(g prometheus.Gatherer, o ExportOptions) (stop func(), err error) {
	nothing := func() {}
	switch {
	case g == nil:
		return nothing, errors.New("worker: export: there is no gatherer")
	case o.Interval < 0:
		return nothing, fmt.Errorf("worker: export: an interval of %v", o.Interval)
	case hasMerged(g):
		return nothing, errors.New("worker: export: this gatherer has the merged metrics, also what is exported")
	}
	r.mu.Lock()
	r.bindOnce()
	e := r.exporterOf(g)
	if e != nil && e.publisher != nil {
		if !e.implied {
			r.mu.Unlock()
			return nothing, errors.New("worker: export: this gatherer is exported already")
		}
		r.removePublisher(e.publisher)
	}
	if e == nil {
		e = r.addExporter(g)
	}
	e.implied = false
	e.mu.Lock()
	e.options = o
	e.mu.Unlock()
	p := r.addPublisher(cmp.Or(o.Interval, publishEvery), e.publish)
	e.publisher = p
	r.mu.Unlock()
	e.publish()
	return sync.OnceFunc(func() {
		e.publish()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.removePublisher(p)
		e.publisher = nil
	}), nil
}

// exporterOf returns what exports g, or has done so. The caller holds the lock.
func (r *registry) exporterOf(g prometheus.Gatherer) *exporter {
	if !reflect.ValueOf(g).Comparable() {
		return nil
	}
	for _, e := range r.publishing.exporters {
		if reflect.ValueOf(e.gatherer).Comparable() && e.gatherer == g {
			return e
		}
	}
	return nil
}

// hasMerged reports whether a gatherer has what is exported: to export it would be to count its own sums without end.
func hasMerged(g prometheus.Gatherer) bool {
	switch g := g.(type) {
	case gatherer, *aggregate.Store:
		return true
	case prometheus.Gatherers:
		return slices.ContainsFunc(g, hasMerged)
	}
	return false
}

// exporter publishes one gatherer. It keeps what it has published in memory too, so that it can write it anew when the
// process moves to another store.
type exporter struct {
	registry  *registry
	gatherer  prometheus.Gatherer
	publisher *publisher // nil when it was stopped; the registry's lock protects it and implied
	implied   bool       // by ExportDefault, so that Export may take over

	mu       sync.Mutex // one at a time publishes; protects what follows, and is taken before the registry's
	options  ExportOptions
	writer   *shmstore.Writer // where the series are; nil: nowhere yet
	families map[string]*exportedFamily
	round    uint64 // number of the publishing
	counts   []uint64
}

// publish asks the gatherer and publishes what it has.
func (e *exporter) publish() {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.registry
	r.mu.RLock()
	w := r.binding.writer
	r.mu.RUnlock()
	if w == nil {
		return
	}
	families, err := e.gather()
	if w != e.writer {
		e.moveTo(w)
	}
	e.round++
	for _, mf := range families {
		if mf != nil {
			e.take(mf)
		}
	}
	if err != nil {
		return // what is missing may be there
	}
	for _, f := range e.families {
		f.sweep()
	}
}

// gather asks the gatherer; what is wrong is logged once.
func (e *exporter) gather() (families []*dto.MetricFamily, err error) {
	defer func() {
		if p := recover(); p != nil {
			families, err = nil, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		if err != nil {
			e.say("gather", "not all metrics could be gathered for export", "error", err)
		}
	}()
	return e.gatherer.Gather()
}

// moveTo writes all that was published to another file.
func (e *exporter) moveTo(w *shmstore.Writer) {
	e.writer = w
	for _, f := range e.families {
		f.moved()
	}
}

// say logs something about the exporter that the log does not have yet.
func (e *exporter) say(what, text string, args ...any) {
	r := e.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	r.once(fmt.Sprintf("export %p %s", e, what), func() { r.log.Warn(text, args...) })
}

// claim reports whether the exporter may have a family, and why it may not.
func (e *exporter) claim(name string) (reason string) {
	r := e.registry
	r.mu.RLock()
	owned, by := r.families[name] != nil, r.publishing.claims[name]
	r.mu.RUnlock()
	switch {
	case owned:
		return "the program has a metric of that name from package worker"
	case by == e:
		return ""
	case by != nil:
		return "another gatherer that is exported has it too"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.publishing.claims[name] == nil {
		r.publishing.claims[name] = e
	}
	if r.publishing.claims[name] != e {
		return "another gatherer that is exported has it too"
	}
	return ""
}

// gatherLocal gathers the metrics of this process, which has no store.
func (r *registry) gatherLocal() ([]*dto.MetricFamily, error) {
	families, err := r.local.Gather()
	r.mu.RLock()
	exporters := slices.DeleteFunc(slices.Clone(r.publishing.exporters), func(e *exporter) bool { return e.publisher == nil })
	r.mu.RUnlock()
	if len(exporters) == 0 {
		return families, err
	}
	errs := []error{err}
	for _, e := range exporters {
		e.mu.Lock()
		skip := e.options.Skip
		e.mu.Unlock()
		exported, err := e.gather()
		errs = append(errs, err)
		for _, mf := range exported {
			if mf == nil || skip != nil && skip(mf.GetName()) {
				continue
			}
			if reason := e.claim(mf.GetName()); reason != "" {
				e.leaveOut(mf.GetName(), reason)
				continue
			}
			families = append(families, mf)
		}
	}
	slices.SortStableFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return families, errors.Join(errs...)
}

// leaveOut says that a family, or a part of it, is not exported.
func (e *exporter) leaveOut(family, reason string) {
	e.say(family+" "+reason, "a metric is not exported", "metric", family, "reason", reason)
}
