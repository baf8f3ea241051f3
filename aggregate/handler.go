package aggregate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/prometheus/client_golang/prometheus/promhttp/zstd" // so that promhttp offers it
	"github.com/prometheus/common/expfmt"

	"github.com/onescrape/onescrape/aggregate/scrapetimeout"
)

// HandlerOptions are the options of Store.Handler. The zero value suits most programs.
type HandlerOptions struct {
	// MaxRequestsInFlight is how many answers are made at the same time; further requests get 503. 0: 8; negative: no
	// limit. Answers that are being sent do not count. Answers that scrapers have not read yet may have 64 MiB together, or
	// be a single one; further requests get 503 too.
	MaxRequestsInFlight int
	// Timeout is how long a scrape may take before it gets 503. 0: 10 s; negative: no limit. A shorter timeout in the
	// header X-Prometheus-Scrape-Timeout-Seconds counts instead.
	Timeout time.Duration
	// CreatedLines adds _created samples to OpenMetrics.
	CreatedLines bool
	// DisableCompression never compresses, even if the scraper would take it.
	DisableCompression bool
	// Additional has further metrics for the answer, such as those of the process that answers; nil: none. It is asked in
	// each scrape, by several goroutines at once if there are several scrapes.
	Additional prometheus.Gatherer
}

const (
	defaultInFlight = 8
	defaultTimeout  = 10 * time.Second
	timeoutHeader   = scrapetimeout.Header
	maxUnsent       = 64 << 20
)

// Handler returns a handler that answers scrapes, in the format and compression that the scraper prefers. Parameters
// `name[]` restrict it to families of these names. Each answer is at least as new as its request.
func (s *Store) Handler(o HandlerOptions) http.Handler {
	h := &handler{store: s, options: o, maxUnsent: maxUnsent}
	switch {
	case o.MaxRequestsInFlight == 0:
		h.inFlight = make(chan struct{}, defaultInFlight)
	case o.MaxRequestsInFlight > 0:
		h.inFlight = make(chan struct{}, o.MaxRequestsInFlight)
	}
	var all prometheus.Gatherer = s
	if o.Additional != nil {
		all = prometheus.Gatherers{s, o.Additional}
	}
	options := promhttp.HandlerOpts{
		EnableOpenMetrics:                   true,
		EnableOpenMetricsTextCreatedSamples: o.CreatedLines,
		DisableCompression:                  o.DisableCompression,
		ErrorHandling:                       promhttp.ContinueOnError,
		ErrorLog:                            slog.NewLogLogger(s.log.Handler(), slog.LevelError),
	}
	h.gathered = promhttp.HandlerFor(all, options)
	h.openMetrics = promhttp.HandlerFor(withoutClashes(all), options)
	h.empty = promhttp.HandlerFor(prometheus.Gatherers{}, options)
	return h
}

// handler answers scrapes. What is text comes from the plan, everything else by way of Gather from promhttp.
type handler struct {
	store    *Store
	options  HandlerOptions
	inFlight chan struct{} // has as many as are being answered; nil: any number may be
	gathered http.Handler
	// openMetrics is gathered without what OpenMetrics cannot have.
	openMetrics http.Handler
	empty       http.Handler // of no metrics at all: what promhttp makes of the headers

	unsent    atomic.Int64 // bytes of answers that are being sent
	maxUnsent int64
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	limit, limited := h.options.timeout(r)
	if h.inFlight != nil {
		select {
		case h.inFlight <- struct{}{}:
		default:
			http.Error(w, fmt.Sprintf("Limit of concurrent requests reached (%d), try again later.", cap(h.inFlight)),
				http.StatusServiceUnavailable)
			return
		}
	}
	if !limited {
		a := h.answer(r)
		h.release()
		h.send(w, a)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	done := make(chan *answer, 1)
	go func() { done <- h.answer(r) }()
	select {
	case a := <-done:
		h.release()
		h.send(w, a)
	case <-ctx.Done():
		// The pass goes on after the answer was given up, and counts as one in flight.
		go func() {
			<-done
			h.release()
		}()
		w.WriteHeader(http.StatusServiceUnavailable)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			fmt.Fprintf(w, "The scrape took longer than %v.\n", limit)
		}
	}
}

// send sends the answer, unless too much waits already for scrapers that do not read. A single answer may be as long as
// the store makes it.
func (h *handler) send(w http.ResponseWriter, a *answer) {
	length := int64(len(a.body.bytes))
	unsent := h.unsent.Add(length)
	defer h.unsent.Add(-length)
	if unsent > h.maxUnsent && unsent > length && a.panicked == nil {
		buffers.give(a.body)
		http.Error(w, "Too many answers wait for scrapers that do not read them, try again later.",
			http.StatusServiceUnavailable)
		return
	}
	a.writeTo(w)
}

// release ends a request's time in flight.
func (h *handler) release() {
	if h.inFlight != nil {
		<-h.inFlight
	}
}

// answer makes the whole answer to a request.
func (h *handler) answer(r *http.Request) (a *answer) {
	r = withoutRefusals(r)
	a = newAnswer()
	defer func() { a.panicked = recover() }()
	format := expfmt.NegotiateAccept(r.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...)
	x := exposition{escaping: format.ToEscapingScheme(), created: h.options.CreatedLines}
	switch format.FormatType() {
	case expfmt.TypeTextPlain:
	case expfmt.TypeOpenMetrics:
		x.syntax = openMetrics
	default:
		h.gathered.ServeHTTP(a, r)
		return a
	}
	text := buffers.take()
	defer func() { buffers.give(text) }()
	var err error
	var names []string
	if r.URL != nil {
		names = r.URL.Query()["name[]"]
	}
	text.bytes, err = h.store.appendText(text.bytes, x, names, h.options.Additional)
	if err != nil {
		if x.syntax == openMetrics {
			h.openMetrics.ServeHTTP(a, r)
		} else {
			h.gathered.ServeHTTP(a, r)
		}
		return a
	}
	h.empty.ServeHTTP(a, r)
	encoding := a.header.Get("Content-Encoding")
	if compress := compressions[encoding]; compress != nil {
		a.body.bytes = compress(a.body.bytes[:0], text.bytes)
	} else {
		a.body, text = text, a.body
	}
	return a
}

// answer is a whole answer before it is sent. It is an http.ResponseWriter.
type answer struct {
	header   http.Header
	code     int
	body     *buffer
	panicked any // what nobody has recovered from
}

func newAnswer() *answer {
	return &answer{header: http.Header{}, code: http.StatusOK, body: buffers.take()}
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(code int) { a.code = code }

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) {
	a.body.bytes = append(a.body.bytes, b...)
	return len(b), nil
}

// writeTo sends the answer, after which it is nobody's.
func (a *answer) writeTo(w http.ResponseWriter) {
	if a.panicked != nil {
		panic(a.panicked)
	}
	if others := w.Header()["Vary"]; others != nil {
		a.header["Vary"] = append(others, a.header["Vary"]...)
	}
	maps.Copy(w.Header(), a.header)
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body.bytes)))
	w.WriteHeader(a.code)
	w.Write(a.body.bytes)
	buffers.give(a.body)
}

// timeout returns how long a request may take; false: as long as it takes.
func (o HandlerOptions) timeout(r *http.Request) (time.Duration, bool) {
	limit := time.Duration(math.MaxInt64)
	switch {
	case o.Timeout == 0:
		limit = defaultTimeout
	case o.Timeout > 0:
		limit = o.Timeout
	}
	if d, ok := scrapetimeout.Of(r); ok {
		limit = min(limit, d)
	}
	return limit, limit < math.MaxInt64
}
