package httpmetrics

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// What a handler gets must be what the server's http.ResponseWriter is, and nothing more, because handlers ask: an
// http.Flusher, an http.Hijacker. So there are writers of several types. Each is a word, leads to the response for as
// long as the handler runs, and is never used again: a handler that keeps it has no way to the next request's response.
// One contains the other, so a piece of memory can be whichever is needed.
//
//	plainWriter                    any http.ResponseWriter
//	└ flushWriter                  with http.Flusher
//	  ├ hijackWriter               and http.Hijacker
//	  │ └ http1Writer              and io.ReaderFrom: net/http's for HTTP/1
//	  └ http2Writer                and http.Pusher: net/http's for HTTP/2
//
// What a writer of another kind can do besides, http.ResponseController finds by Unwrap.

// http1Response is what net/http's writer for HTTP/1 can do.
type http1Response interface {
	http.Flusher
	http.Hijacker
	io.ReaderFrom
	closeNotifier
}

// http2Response is what net/http's writer for HTTP/2 can do.
type http2Response interface {
	http.Flusher
	http.Pusher
	closeNotifier
}

// closeNotifier is http.CloseNotifier, which is deprecated; frameworks still take for granted that it is there.
type closeNotifier interface{ CloseNotify() <-chan bool }

type flushErrorer interface{ FlushError() error }

type plainWriter struct {
	response atomic.Pointer[response] // nil: the handler has returned
}

func (w *plainWriter) exchange() *response {
	if x := w.response.Load(); x != nil {
		return x
	}
	return over
}

func (w *plainWriter) Header() http.Header { return w.exchange().under.Header() }

func (w *plainWriter) WriteHeader(status int) { w.exchange().writeHeader(status) }

func (w *plainWriter) Write(b []byte) (int, error) {
	x := w.exchange()
	x.send(http.StatusOK)
	n, err := x.under.Write(b)
	x.wrote(int64(n))
	return n, err
}

func (w *plainWriter) WriteString(s string) (int, error) {
	x := w.exchange()
	x.send(http.StatusOK)
	n, err := io.WriteString(x.under, s)
	x.wrote(int64(n))
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *plainWriter) Unwrap() http.ResponseWriter { return w.exchange().under }

type flushWriter struct{ plainWriter }

func (w *flushWriter) Flush() { w.exchange().flush() }

// FlushError is what http.ResponseController prefers.
func (w *flushWriter) FlushError() error { return w.exchange().flush() }

type hijackWriter struct{ flushWriter }

func (w *hijackWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.exchange().hijack() }

type http1Writer struct{ hijackWriter }

func (w *http1Writer) ReadFrom(src io.Reader) (int64, error) { return w.exchange().readFrom(src) }

func (w *http1Writer) CloseNotify() <-chan bool {
	return w.exchange().under.(closeNotifier).CloseNotify()
}

type http2Writer struct{ flushWriter }

func (w *http2Writer) Push(target string, o *http.PushOptions) error {
	return w.exchange().under.(http.Pusher).Push(target, o)
}

func (w *http2Writer) CloseNotify() <-chan bool {
	return w.exchange().under.(closeNotifier).CloseNotify()
}
