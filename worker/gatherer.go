package worker

import (
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/onescrape/onescrape/aggregate"
)

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
	if r.writer == nil || r.reader != nil {
		return r.reader, nil
	}
	// Folding is the master's.
	store, err := aggregate.Open(r.dir.Path(), aggregate.Options{ReadOnly: true, Logger: r.log})
	r.reader = store
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
