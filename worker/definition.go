package worker

import (
	"maps"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"fmt"

	"github.com/onescrape/onescrape/shmstore"
)

// definition is one metric, or one vector of them, as its constructor was called: a name with one set of constant
// labels. Definitions of one name share a family.
type definition struct {
	registry  *registry
	desc      *prometheus.Desc
	family    shmstore.Family
	names     []string // of the variable labels, in the order in which they were declared
	place     []int    // where each of them comes in family.Labels
	constant  []string // values in the order of family.Labels, "" for the variable ones
	newSeries func(*definition) *series
	clock     *sliceClock // of a summary with objectives, else nil

	table       atomic.Pointer[table]       // stored with the registry's lock held
	constraints atomic.Pointer[constraints] // nil: none

	// Protected by the registry's lock.
	client *prometheus.MetricVec // made by the first call of metricVec
	writer *shmstore.Writer      // that id belongs to
	id     uint32
}

func newDefinition(
	r *registry, f shmstore.Family, names []string, constant prometheus.Labels, newSeries func(*definition) *series,
) *definition {
	names = slices.Clone(names)
	f.Labels = slices.Sorted(maps.Keys(constant))
	f.Labels = append(f.Labels, names...)
	slices.Sort(f.Labels)
	d := &definition{
		registry: r,
		desc: prometheus.V2.NewDesc(
			f.Name, f.Help, prometheus.UnconstrainedLabels(names), constant, prometheus.WithUnit(f.Unit)),
		family:    f,
		names:     names,
		place:     make([]int, len(names)),
		constant:  make([]string, len(f.Labels)),
		newSeries: newSeries,
	}
	for i, l := range f.Labels {
		d.constant[i] = constant[l]
	}
	for i, l := range names {
		d.place[i], _ = slices.BinarySearch(f.Labels, l)
	}
	d.table.Store(newTable(2))
	return d
}

// Describe implements prometheus.Collector.
func (d *definition) Describe(ch chan<- *prometheus.Desc) { ch <- d.desc }

// Collect implements prometheus.Collector. It holds no lock while it sends.
func (d *definition) Collect(ch chan<- prometheus.Metric) {
	for s := range d.table.Load().all() {
		if f, ok := s.metric.(valueFunction); ok {
			collect(f, ch)
		} else {
			ch <- s.metric
		}
	}
}

// create returns the series of these values and makes it if it does not exist. The values are valid, and create may keep them.
func (d *definition) create(values []string) *series {
	d.registry.mu.Lock()
	defer d.registry.mu.Unlock()
	hash := hashValues(values)
	if s := d.table.Load().find(hash, values); s != nil {
		return s
	}
	s := d.newSeries(d)
	s.def, s.values, s.hash, s.created = d, values, hash, time.Now()
	cells := d.registry.allot(s)
	s.cells.Store(&cells[0])
	if h, ok := s.metric.(*Histogram); ok {
		h.placeNative()
	}
	s.placeWindow()
	d.table.Store(d.table.Load().insert(s))
	return s
}

// released is a deleted series whose cells nobody can write to any more.
type released struct {
	writer *shmstore.Writer
	series *shmstore.Series
}

// remove deletes s, which may be nil; false when it was not there any more. From then on a look-up of its values makes
// another series; who still holds the handle goes on writing to the old one's cells, and only when the last such handle
// is gone they may be used again.
func (d *definition) remove(s *series) bool {
	if s == nil {
		return false
	}
	r := d.registry
	r.mu.Lock()
	client := d.client
	found := d.table.Load().remove(s)
	if found {
		r.drop(s)
		if s.stored != nil {
			runtime.AddCleanup(s, func(x released) { x.writer.Released(x.series) }, released{r.binding.writer, s.stored})
		}
	}
	r.mu.Unlock()
	// client_golang's view has a lock of its own, under which it asks for series: ours must be free.
	if found && client != nil {
		client.DeleteLabelValues(s.values...)
	}
	return found
}

// metricVec returns client_golang's vector over the same series.
func (d *definition) metricVec() *prometheus.MetricVec {
	d.registry.mu.Lock()
	defer d.registry.mu.Unlock()
	if d.client == nil {
		all := vec{def: d}
		d.client = prometheus.NewMetricVec(d.clientDesc(), func(lvs ...string) prometheus.Metric {
			if s := all.lookUp(lvs); s != nil {
				return s.metric
			}
			return d.create(cloneStrings(lvs)).metric
		})
	}
	return d.client
}

// labelValues returns the series' values in the order of family.Labels.
func (s *series) labelValues() []string {
	values := slices.Clone(s.def.constant)
	for i, v := range s.values {
		values[s.def.place[i]] = v
	}
	return values
}

// labels returns the series' labels in ascending order of their names.
func (s *series) labels() []*dto.LabelPair { return prometheus.MakeLabelPairs(s.def.desc, s.values) }

// hasLabel reports whether a metric has a label of that name.
func hasLabel(name string, variable []string, constant prometheus.Labels) bool {
	_, ok := constant[name]
	return ok || slices.Contains(variable, name)
}

// GaugeMode says how the values of one gauge in several workers become one. It is an alias of shmstore's type.
type GaugeMode = shmstore.GaugeMode

// The modes of a gauge. Modes with Live forget the value of a worker that dies, the others keep its last value. Add and Sub
// make sense with Sum and LiveSum only.
const (
	All            = shmstore.All            // one series a worker, with its slot as the label "worker"
	LiveAll        = shmstore.LiveAll        // as All, of the live ones
	Sum            = shmstore.Sum            // the sum
	LiveSum        = shmstore.LiveSum        // the sum over the live ones: requests in flight, open connections
	Min            = shmstore.Min            // the smallest
	LiveMin        = shmstore.LiveMin        // the smallest of the live ones
	Max            = shmstore.Max            // the largest: a version, a high-water mark
	LiveMax        = shmstore.LiveMax        // the largest of the live ones
	Avg            = shmstore.Avg            // the mean
	LiveAvg        = shmstore.LiveAvg        // the mean over the live ones
	MostRecent     = shmstore.MostRecent     // the one that was set last: a time of the last success
	LiveMostRecent = shmstore.LiveMostRecent // the one that was set last by a live one
)

// checkMode panics, with what to pass, when a constructor got no mode of this package.
func checkMode(typ shmstore.Type, name string, mode GaugeMode) {
	if mode.String() != "" {
		return
	}
	const pass = "pass how the values of several workers become one: worker.LiveSum for what adds up and ends with its worker, " +
		"worker.Sum for what stays, worker.Max or worker.MostRecent for one value of all, worker.LiveAll for one series a worker"
	if mode == 0 {
		panic(fmt.Errorf("%s %q has no mode: %s", typ, name, pass))
	}
	panic(fmt.Errorf("%s %q has the mode %d, which worker does not know: %s", typ, name, mode, pass))
}
