package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"net/http"
	"time"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/worker/logqueue"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// process is what the package's functions work on: the metrics of this process.
var process = newRegistry(fromEnvironment)

// registry is a set of metrics and the place where their values are. A process has one; tests make more.
type registry struct {
	mu       sync.RWMutex           // taken for whatever is rare: to define, make, delete, move and read
	local    *prometheus.Registry   // every definition; it has the rules, and gathers when there is no store
	families map[string]*definition // the first definition of each name
	all      []*definition
	lines    map[string]bool // what was logged
	log      *slog.Logger
	clocks   sliceClocks

	binding    binding
	publishing publishing
}

// newRegistry returns a registry without metrics that looks for a store, when first needed, by look.
func newRegistry(look func() (dir string, slot int, err error)) *registry {
	return &registry{
		local:    prometheus.NewRegistry(),
		families: make(map[string]*definition),
		lines:    make(map[string]bool),
		log:      slog.New(logqueue.Wrap(slog.NewTextHandler(os.Stderr, nil))),
		clocks:   newSliceClocks(shmstore.Monotonic, (*sliceClock).run),
		binding:  binding{look: look},

		publishing: publishing{claims: make(map[string]*exporter)},
	}
}

// define returns the vector of a definition, which it registers unless it is. It panics with client_golang's errors.
func (r *registry) define(
	f shmstore.Family, names []string, constant prometheus.Labels, newSeries func(*definition) *series,
) *vec {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bindOnce()
	d := newDefinition(r, f, names, constant, newSeries)
	if err := r.local.Register(d); err != nil {
		var again prometheus.AlreadyRegisteredError
		if !errors.As(err, &again) {
			panic(err)
		}
		first := again.ExistingCollector.(*definition)
		if err := first.conflict(d); err != nil {
			panic(err)
		}
		return &vec{def: first}
	}
	if first := r.families[f.Name]; first == nil {
		r.families[f.Name] = d
	} else if err := first.conflict(d); err != nil {
		r.local.Unregister(d)
		panic(err)
	}
	if f.Window != nil {
		d.clock = r.clocks.of(f.Window)
	}
	r.all = append(r.all, d)
	return &vec{def: d}
}

// conflict returns why d and e cannot have the same name, in addition to what client_golang's registry checks.
func (d *definition) conflict(e *definition) error {
	const had = "a previously registered descriptor with the same fully-qualified name as %s has "
	switch a, b := d.family, e.family; {
	case a.Type != b.Type:
		return fmt.Errorf(had+"the type %s, not %s", e.desc, a.Type, b.Type)
	case a.Mode != b.Mode:
		return fmt.Errorf(had+"the gauge mode %s, not %s", e.desc, a.Mode, b.Mode)
	case !slices.Equal(a.Bounds, b.Bounds):
		return fmt.Errorf(had+"the buckets %v, not %v", e.desc, a.Bounds, b.Bounds)
	case (a.Native == nil) != (b.Native == nil), a.Native != nil && *a.Native != *b.Native:
		return fmt.Errorf(had+"the native buckets %+v, not %+v", e.desc, a.Native, b.Native)
	case a.Window.String() != b.Window.String():
		return fmt.Errorf(had+"the objectives %v, not %v", e.desc, a.Window, b.Window)
	case d.desc.String() == e.desc.String() && d.isFunction():
		return prometheus.AlreadyRegisteredError{ExistingCollector: d, NewCollector: e}
	case d.desc.String() == e.desc.String():
		return nil
	case !slices.Equal(d.names, e.names):
		return fmt.Errorf(had+"its variable labels in the order %q, not %q", e.desc, d.names, e.names)
	}
	return nil
}

// refuse says once that a counter was given a value that it cannot hold.
func (r *registry) refuse(d *definition, v float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.once("refused "+d.family.Name, func() {
		r.log.Warn("a counter takes finite values only, this one was not added", "metric", d.family.Name, "value", v)
	})
}

// once calls log the first time that it is called for key. The caller holds the lock.
func (r *registry) once(key string, log func()) {
	if !r.lines[key] {
		r.lines[key] = true
		log()
	}
}

// Gatherer returns a gatherer of this program's metrics: with a store the merged metrics of all its processes, without one
// those of this process alone. The gatherer looks for a store at each call, so it may be taken before Open.
func Gatherer() prometheus.Gatherer { return gatherer{process} }

type gatherer struct{ r *registry }

// Gather implements prometheus.Gatherer.
func (g gatherer) Gather() ([]*dto.MetricFamily, error) {
	store, err := g.r.merged()
	if err != nil {
		return nil, err
	}
	if store == nil {
		return g.r.gatherLocal()
	}
	return store.Gather()
}

// merged returns what reads the store that this process writes to; nil when it writes to none.
func (r *registry) merged() (*aggregate.Store, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bindOnce()
	if r.binding.writer == nil || r.binding.reader != nil {
		return r.binding.reader, nil
	}
	// Folding is the master's.
	store, err := aggregate.Open(r.binding.dir.Path(), aggregate.Options{ReadOnly: true, Logger: r.log})
	r.binding.reader = store
	return store, err
}

// Handler returns an HTTP handler that serves Gatherer's metrics, so that every worker of a server answers with the metrics
// of all. The zero options suit most programs.
func Handler(o aggregate.HandlerOptions) http.Handler { return process.handler(o) }

func (r *registry) handler(o aggregate.HandlerOptions) http.Handler {
	limit, timeout := o.MaxRequestsInFlight, o.Timeout
	if limit == 0 {
		limit = 8
	}
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	var local prometheus.Gatherer = prometheus.GathererFunc(r.gatherLocal)
	if o.Additional != nil {
		local = prometheus.Gatherers{local, o.Additional}
	}
	return &handler{registry: r, options: o, local: promhttp.HandlerFor(local, promhttp.HandlerOpts{
		MaxRequestsInFlight:                 limit,
		Timeout:                             timeout,
		DisableCompression:                  o.DisableCompression,
		EnableOpenMetrics:                   true,
		EnableOpenMetricsTextCreatedSamples: o.CreatedLines,
	})}
}

// handler passes a request on to the merged metrics' handler or to this process's.
type handler struct {
	registry *registry
	options  aggregate.HandlerOptions
	local    http.Handler

	mu     sync.Mutex // protects what follows: the store's handler, kept because it counts its requests in flight
	store  *aggregate.Store
	merged http.Handler
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	store, err := h.registry.merged()
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case store == nil:
		h.local.ServeHTTP(w, req)
	default:
		h.of(store).ServeHTTP(w, req)
	}
}

func (h *handler) of(store *aggregate.Store) http.Handler {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.store != store {
		h.store, h.merged = store, store.Handler(h.options)
	}
	return h.merged
}
