// Package httpmetrics measures an HTTP server, in one line: the counterpart of prometheus_flask_exporter for Go. Every
// request is counted and timed, by method, status and route, exactly and over all workers of a prefork server.
//
//	err := master.Run(master.Config{Listen: []string{":8080"}}, func(ctx context.Context, w *worker.Worker) error {
//		return w.Serve(&http.Server{Handler: httpmetrics.Wrap(mux)})
//	})
//
// What there is then, with the names and labels of prometheus_flask_exporter, and with Options.Prefix "flask" also with its
// prefix:
//
//	http_request_duration_seconds{method,path,status}   histogram; path is the pattern of the route
//	http_request_total{method,status}                   counter
//	http_request_exceptions_total{method,status}        counter of the requests whose handler panicked
//	http_requests_in_flight                             gauge of those that are being answered; in New an option
//	exporter_info{version}                              gauge, 1
//
// and, with an option, http_request_size_bytes and http_response_size_bytes. What the default registry of client_golang
// has, such as the metrics of the process and of the Go runtime, comes along.
//
// A program's own metrics are wrappers for handlers: Metrics.Counter counts calls, Metrics.Gauge shows those in progress,
// Metrics.Histogram and Metrics.Summary time them, and all can have labels that are computed from the request and its answer.
//
// A request, and a call in a Counter, is counted when the status line is written, before a byte of the answer leaves. So a
// client that has an answer finds it in the next scrape. Durations and sizes follow when the handler returns. A 1xx status
// does not count, except 101. When nothing was written, this is counted:
//
//	200    the handler returned
//	499    the client had gone, or the handler gave up with http.ErrAbortHandler
//	500    the handler panicked; the panic is passed on
//	101    the handler took the connection over (http.Hijacker); 200 for CONNECT
//
// An answer that is begun when the client has gone is a 499 too. http.ErrAbortHandler is no exception.
//
// Nothing that comes from a client makes series without end: methods that HTTP does not define are "other", and so is any
// label value beyond the number that a label may have. A label function that panics gives "error". Both are counted, in
// http_label_overflows_total{label} and http_label_errors_total{label}. Values that are no valid UTF-8 are made so, and
// long ones are cut. None of this breaks a request.
//
// A handler sees the server's http.ResponseWriter as it is: it is an http.Flusher, http.Hijacker, io.ReaderFrom or
// http.Pusher where that is one, and http.ResponseController works. A handler that keeps the writer beyond its return,
// which net/http forbids, gets an error there and reaches no other request. A request costs no allocation beyond a word for
// this: a kilobyte after 128 requests.
//
// # Routes
//
// The route is the pattern of http.Request.Pattern without method and host, which http.ServeMux sets. What no route matched
// is "unmatched". The pattern cannot be seen from outside a router that keeps it for itself, or behind middleware that
// clones the request; one log line says so, and what to do:
//
//	http.ServeMux           Wrap(mux), inside middleware that clones the request (WithContext, TimeoutHandler)
//	below http.StripPrefix  Wrap around the outer mux, and Wrap around the inner one too
//	chi                     router.Use(metrics.Wrap)
//	gorilla                 the adapter in worker/httpmetrics/gorillametrics, or Metrics.Route
//	any other               Metrics.Route around each handler
//	fasthttp Fiber gin echo the adapters in integration, which are modules of their own
//
// # What has no counterpart here
//
// response_converter and the extensions for Connexion and Flask-RESTful turn what a Python function returned into a
// response; a Go handler has nothing to convert. Neither is there a reloader whose second process must not be measured.
package httpmetrics
