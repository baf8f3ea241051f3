package httpmetrics

import "net/http"

// Wrap returns h with the default metrics and the requests in flight around it: New with Options.InFlight, and its Wrap.
// It panics when the program has one of these metrics with other labels or of another type.
func Wrap(h http.Handler) http.Handler { return Must(New(Options{InFlight: true})).Wrap(h) }

// Wrap returns h with the metrics around it: every request is measured once, however many Wraps of the same Metrics it
// passes. A Wrap around a router below http.StripPrefix makes its patterns part of the route. With Options.MetricsPath it also serves the metrics. A panic of h is passed on.
func (m *Metrics) Wrap(h http.Handler) http.Handler {
	m.wraps.Store(true)
	path := m.options.MetricsPath
	if path == "" {
		return measured{m, h}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == path {
			m.endpoint.ServeHTTP(w, r)
			return
		}
		measured{m, h}.ServeHTTP(w, r)
	})
}

// measured is a handler with all metrics around it.
type measured struct {
	metrics *Metrics
	next    http.Handler
}

// ServeHTTP implements http.Handler.
func (h measured) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if e := find(w, h.metrics); e != nil {
		e.nest(r)
		h.next.ServeHTTP(w, r)
		return
	}
	h.metrics.serve(w, r, "", h.next)
}

// serve measures a request to h from its beginning to its end.
func (m *Metrics) serve(w http.ResponseWriter, r *http.Request, route string, h http.Handler) {
	x := acquire(w, r)
	defer x.finish()
	x.Route = route
	m.Begin(&x.Exchange)
	h.ServeHTTP(x.writer, r)
	x.returned = true
}

// Route returns h for a router that sets no http.Request.Pattern, or whose pattern cannot be seen: requests to h have
// this route, given as http.ServeMux takes it or without method and host. It names the route for the Wrap around the
// router; where there is none, it measures h as Wrap does.
func (m *Metrics) Route(pattern string, h http.Handler) http.Handler {
	route := routeOf(pattern)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := find(w, m)
		switch {
		case e != nil:
			e.Route = route
		case m.wraps.Load():
			m.sayHidden(pattern) // and to measure it here would count it twice
		default:
			m.serve(w, r, route, h)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// DoNotTrack returns h without the default metrics: requests to it are left out of them. Metrics that it is wrapped in,
// inside or outside, and those of RegisterDefault still count.
func (m *Metrics) DoNotTrack(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e := find(w, m); e != nil {
			e.DoNotTrack()
		}
		h.ServeHTTP(w, r)
	})
}

// ExcludeAll returns h without any metrics of these Metrics, whether they are around it or inside.
func (m *Metrics) ExcludeAll(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e := find(w, m); e != nil {
			e.ExcludeAll()
		}
		h.ServeHTTP(w, r)
	})
}

// Of returns the exchange that w belongs to, for adapters on net/http that have something to say of it, such as its
// Route; nil when it is not measured by m, or when middleware hides the http.ResponseWriter that it was given. An
// adapter's own writer is found if it has a method Exchange that returns a *Exchange which Begin was called with.
func (m *Metrics) Of(w http.ResponseWriter) *Exchange { return find(w, m) }
