package httpmetrics

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/onescrape/onescrape/worker"
)

// Exchange is one request and its answer, as label functions get it. They may read it, also from Request, and must not
// keep it: it is used again. Adapters for frameworks fill it and give it to Metrics.Begin.
type Exchange struct {
	Request *http.Request // nil in frameworks that have another
	Method  string        // as the client sent it
	Path    string        // of the URL
	Route   string        // pattern of the route without method and host; "" when it is not known (yet), or none matched
	Status  int           // 0 until the status line is written

	RequestSize  int64         // of the body, by its Content-Length; -1 when the client did not say
	ResponseSize int64         // bytes of the body that were sent so far
	Duration     time.Duration // 0 until the handler has returned
	Panicked     bool          // the handler panicked, and not with http.ErrAbortHandler

	sender   http.ResponseWriter // of net/http; nil elsewhere
	nested   nested
	metrics  *Metrics
	start    time.Duration // since epoch
	omit     omit          // what it is left out of
	inFlight bool          // is part of the gauge
	counted  bool          // the status line is written
	final    int           // Status as it was counted
	life     uint          // which request this is, of those that have used it
	calls    []call
	values   []string // of labels, while they are looked up
}

// omit is why an exchange is left out of metrics.
type omit struct {
	bare      bool // only the metrics around handlers measure it
	excluded  bool // its path is excluded
	untracked bool // by DoNotTrack
	dropped   bool // by ExcludeAll
}

// ResponseHeader returns the header of the answer, for label functions to read; nil in frameworks that have another.
func (e *Exchange) ResponseHeader() http.Header {
	if e.sender == nil {
		return nil
	}
	return e.sender.Header()
}

// epoch is what times are counted from: reading the monotonic clock alone is cheaper than time.Now.
var epoch = time.Now()

// DoNotTrack leaves the exchange out of the default metrics. What a handler is wrapped in for itself, and what
// RegisterDefault has, still counts it. It is for adapters, and without effect on what is counted already.
func (e *Exchange) DoNotTrack() {
	e.omit.untracked = true
	e.land()
}

// ExcludeAll leaves the exchange out of all metrics; gauges are as if it had not begun. It is for adapters, and without
// effect on what is counted already.
func (e *Exchange) ExcludeAll() {
	e.omit.dropped = true
	e.land()
	for i := range e.calls {
		e.calls[i].land()
	}
}

// tracked reports whether the default metrics have the exchange.
func (e *Exchange) tracked() bool {
	return e.metrics.defaults != nil && !e.omit.bare && !e.omit.excluded && !e.omit.untracked && !e.omit.dropped
}

// land takes the exchange out of the requests in flight.
func (e *Exchange) land() {
	if e.inFlight {
		e.inFlight = false
		e.metrics.defaults.inFlight.Dec()
	}
}

// resolve finds the route where only the request knows it.
func (e *Exchange) resolve() {
	if e.Route == "" {
		e.Route = e.nested.route()
	}
	if e.Route == "" && e.Request != nil {
		e.Route = routeOf(e.Request.Pattern)
	}
}

// routeOf returns a pattern of http.ServeMux, "[METHOD ][HOST]/[PATH]", without method and host. A method or host has
// no slash.
func routeOf(pattern string) string {
	if i := strings.IndexByte(pattern, '/'); i > 0 {
		return pattern[i:]
	}
	return pattern
}

// End is what Begin returns: the rest of an exchange's life. Call both methods from the goroutine, or in the order, that the
// handler runs in.
type End struct{ e *Exchange }

// Begin begins the exchange that e describes: Method, Path and RequestSize are set, and Request where there is one. It
// is for adapters; Wrap calls it for net/http. e must stay untouched by others until End.Done, and may be used again
// for another exchange then, as it is or zeroed: keeping it saves allocations.
func (m *Metrics) Begin(e *Exchange) End {
	e.begin(m)
	if d := m.defaults; d != nil && d.inFlight != nil && !e.omit.excluded {
		e.inFlight = true
		d.inFlight.Inc()
	}
	if registered := m.registered.Load(); registered != nil {
		for _, r := range *registered {
			r.Begin(e)
		}
	}
	return End{e}
}

// begin resets what is the package's own.
func (e *Exchange) begin(m *Metrics) {
	e.metrics = m
	e.nested = nested{}
	e.Duration, e.Panicked = 0, false
	e.omit.bare, e.omit.untracked, e.omit.dropped, e.inFlight, e.counted = false, false, false, false, false
	e.calls, e.values = e.calls[:0], e.values[:0]
	e.omit.excluded = m.excludes(e.Path)
	e.start = time.Since(epoch)
}

// Sent says that the status line is about to be written: Status is set and final, and Route where it is known. The
// request is counted, with 499 instead when the context of Request says that the client has gone. Only the first call
// counts; without any, Done counts. What Status is set to later is of no effect.
func (n End) Sent() { n.e.sent() }

func (e *Exchange) sent() {
	if e.counted {
		return
	}
	e.counted = true
	if e.gone() && !e.Panicked {
		e.Status = statusClientGone
	}
	e.final = e.Status
	e.resolve()
	if e.tracked() {
		e.metrics.defaults.count(e)
	}
	for i := range e.calls {
		e.calls[i].count(e)
	}
}

// Done ends the exchange: Status, Route and ResponseSize are set; of an answer to HEAD no body is sent, whatever its
// size is set to. recovered is what recover returned in the caller's deferred function, nil when the handler did not
// panic; it panics with it again. A Status that was not Sent is that of a panic, 500, where there is one, and 0 stands
// for 200.
func (n End) Done(recovered any) {
	n.e.done(recovered)
	if recovered != nil {
		panic(recovered)
	}
}

// gone reports whether the client has gone. The server says so by ending the request's context, with no cause of its own,
// which a worker that must give up has.
func (e *Exchange) gone() bool {
	if e.Request == nil {
		return false
	}
	ctx := e.Request.Context()
	return ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled)
}

func (e *Exchange) done(recovered any) {
	e.life++ // a Call that outlives it finds that it is over
	e.Panicked = recovered != nil && recovered != any(http.ErrAbortHandler)
	if e.Method == http.MethodHead {
		e.ResponseSize = 0
	}
	if e.counted {
		e.Status = e.final
	} else {
		switch {
		case e.Panicked:
			e.Status = http.StatusInternalServerError
		case recovered != nil:
			e.Status = statusClientGone
		case e.Status == 0:
			e.Status = http.StatusOK
		}
	}
	e.Duration = time.Since(epoch) - e.start
	e.land()
	e.sent()
	e.resolve()
	if e.tracked() {
		e.metrics.defaults.observe(e)
	}
	for i := range e.calls {
		e.calls[i].observe(e)
	}
	// Nothing of a request is kept alive until the next one.
	e.nested = nested{}
	clear(e.calls)
	clear(e.values[:cap(e.values)])
}

// call is one run of a handler that a Metric is around.
type call struct {
	metric   *Metric
	start    time.Duration
	duration time.Duration
	over     bool          // duration is set
	gauge    *worker.Gauge // that shows it; nil for other metrics, and when it has landed
}

// count counts the call of a counter.
func (c *call) count(e *Exchange) {
	if c.metric.kind == counterKind && !e.omit.dropped {
		c.metric.instrument(e).counter.Inc()
	}
}

// land takes the call out of those in progress.
func (c *call) land() {
	if c.gauge != nil {
		c.gauge.Dec()
		c.gauge = nil
	}
}

// end is when the handler has returned.
func (c *call) end() {
	if !c.over {
		c.over = true
		c.duration = time.Since(epoch) - c.start
	}
	c.land()
}

// observe puts the duration where it belongs, once everything about the answer is known.
func (c *call) observe(e *Exchange) {
	c.end()
	if c.metric.kind != observerKind || e.omit.dropped {
		return
	}
	whole := e.Duration
	e.Duration = c.duration
	c.metric.instrument(e).observer.Observe(c.duration.Seconds())
	e.Duration = whole
}
