package httpmetrics

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/worker"
	"github.com/onescrape/onescrape/worker/logqueue"
)

// Metrics measure HTTP handlers. New makes one; several in a process are fine, and those with the same names count in
// the same metrics. All methods are safe for concurrent use.
type Metrics struct {
	options  Options
	trouble  *trouble
	defaults *defaults // nil: none
	endpoint http.Handler

	registered atomic.Pointer[[]*Metric] // nil: none
	adding     sync.Mutex                // taken to change registered

	wraps     atomic.Bool // Wrap was called
	unseen    sync.Once   // to log that a pattern cannot be seen
	below     sync.Once   // to log that a pattern behind http.StripPrefix cannot be seen
	hidden    sync.Once   // to log that a request's measuring cannot be found
	onlyRoute bool        // the group is the route
}

// trouble counts what label functions do wrong.
type trouble struct {
	errors, overflows *worker.CounterVec
}

// New returns Metrics that measure what o says. The error tells what is wrong with the options, or that the program has
// one of the metrics with other labels or of another type.
func New(o Options) (*Metrics, error) {
	m, err := newMetrics(o)
	if err != nil {
		return nil, fmt.Errorf("httpmetrics: %w", err)
	}
	return m, nil
}

func newMetrics(o Options) (*Metrics, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	m := &Metrics{options: o, onlyRoute: o.GroupBy.bounded}
	err = catch(func() {
		m.trouble = newTrouble(m.name("http_label_"))
		if !o.NoDefaults {
			m.defaults = m.newDefaults()
		}
	})
	if err != nil {
		return nil, err
	}
	if m.defaults != nil {
		worker.ExportDefault()
	}
	m.endpoint = bySamples(worker.Handler(aggregate.HandlerOptions{}))
	if o.Auth != nil {
		m.endpoint = o.Auth(m.endpoint)
	}
	return m, nil
}

func newTrouble(prefix string) *trouble {
	return &trouble{
		errors: worker.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "errors_total", Help: "Label functions that panicked, by the label.",
		}, []string{"label"}),
		overflows: worker.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "overflows_total", Help: "Label values that were one too many and became other, by the label.",
		}, []string{"label"}),
	}
}

// Must returns v, or panics with err: for package-level Metrics and metrics of theirs.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// catch returns what define panics with, as the constructors of package worker do.
func catch(define func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	define()
	return nil
}

// name returns the name of a default metric.
func (m *Metrics) name(name string) string {
	if m.options.Prefix == "" {
		return name
	}
	return m.options.Prefix + "_" + name
}

// excludes reports whether requests for a path are not measured.
func (m *Metrics) excludes(path string) bool {
	for _, p := range m.options.ExcludedPaths {
		if p.MatchString(path) {
			return true
		}
	}
	return false
}

// RegisterDefault has the metrics count every request that is measured, as if all handlers were wrapped in them: also
// what no route matched, and what DoNotTrack leaves out of the default metrics, but not what ExcludedPaths match,
// unless Options.TrackExcluded is set. It panics when one was made by other Metrics.
func (m *Metrics) RegisterDefault(metrics ...*Metric) {
	m.adding.Lock()
	defer m.adding.Unlock()
	var all []*Metric
	if old := m.registered.Load(); old != nil {
		all = slices.Clone(*old)
	}
	for _, r := range metrics {
		if r.metrics != m {
			panic("httpmetrics: RegisterDefault: the metric was made by other Metrics")
		}
		r.Initialize()
		all = append(all, r)
	}
	m.registered.Store(&all)
}

// Info returns a gauge that is 1 and says something with its labels, such as the version that runs. It may be set to
// other values; that of a worker which has died goes. It panics as worker.NewInfo does.
func (m *Metrics) Info(name, help string, labels prometheus.Labels) *worker.Gauge {
	return worker.NewInfo(prometheus.GaugeOpts{Name: name, Help: help}, labels)
}

// sayUnseen says that the pattern of a request that was answered well is not known.
func (m *Metrics) sayUnseen(e *Exchange) {
	m.unseen.Do(func() {
		logqueue.Logger().Warn("httpmetrics: the route of a request cannot be seen, so all such requests are grouped as one: "+
			"call Wrap inside middleware that clones the request, with chi by router.Use(metrics.Wrap), with gorilla by the "+
			"adapter in worker/httpmetrics/gorillametrics, or name the route by metrics.Route(pattern, handler)",
			"method", e.Method, "path", e.Path, "status", e.Status, "group", unmatched)
	})
}

// sayBelow says that the handler of a route that ends in a slash may be a router whose patterns cannot be seen.
func (m *Metrics) sayBelow(e *Exchange) {
	m.below.Do(func() {
		logqueue.Logger().Warn("httpmetrics: all requests below a route are grouped as one, because a router behind it cannot be "+
			"seen: behind http.StripPrefix call Wrap around the inner http.ServeMux too, or name the route by "+
			"metrics.Route(pattern, handler); ignore this if one handler serves them all",
			"method", e.Method, "path", e.Path, "status", e.Status, "group", e.Route)
	})
}

// sayHidden says that a handler of Route finds no measuring although there is one.
func (m *Metrics) sayHidden(pattern string) {
	m.hidden.Do(func() {
		logqueue.Logger().Warn("httpmetrics: the handler of a route cannot find the Wrap around it, so the route is not seen: "+
			"middleware between them hides the http.ResponseWriter (http.TimeoutHandler does); call Wrap, or Route, inside of it",
			"route", pattern)
	})
}
