package httpmetrics

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
)

// response is an exchange of net/http: it stands between the handler and the server's http.ResponseWriter. It is used
// again; what a handler holds is a writer, which is not.
type response struct {
	Exchange
	under    http.ResponseWriter
	writer   http.ResponseWriter // for the handler: one of ones or twos
	returned bool                // the handler has, without a panic
	hijacked bool

	// What is left of writers that were made together.
	ones []http1Writer
	twos []http2Writer
	last *plainWriter // that writer is made of

	sniff [sniffBytes]byte
}

var responses = sync.Pool{New: func() any { return new(response) }}

// writersAtOnce are how many writers one allocation makes: a kilobyte.
const writersAtOnce = 128

// acquire returns what is between w and the handler of a request.
func acquire(w http.ResponseWriter, r *http.Request) *response {
	x := responses.Get().(*response)
	x.under, x.Exchange.sender = w, w
	x.returned, x.hijacked = false, false
	x.Request, x.Method, x.Path, x.Route, x.Status = r, r.Method, r.URL.Path, "", 0
	x.RequestSize, x.ResponseSize = r.ContentLength, 0
	x.writer = x.newWriter(w)
	return x
}

// newWriter returns a writer that can do what w can.
func (x *response) newWriter(w http.ResponseWriter) http.ResponseWriter {
	if _, ok := w.(http1Response); ok {
		return x.newOne()
	}
	hijacks := reaches[http.Hijacker](w)
	if _, ok := w.(http2Response); ok && !hijacks {
		return x.newTwo()
	}
	one := x.newOne()
	switch flushes := reaches[http.Flusher](w) || reaches[flushErrorer](w); {
	case flushes && hijacks:
		return &one.hijackWriter
	case flushes:
		return &one.flushWriter
	}
	return &one.plainWriter
}

func (x *response) newOne() *http1Writer {
	if len(x.ones) == 0 {
		x.ones = make([]http1Writer, writersAtOnce)
	}
	w := &x.ones[0]
	x.ones = x.ones[1:]
	x.own(&w.plainWriter)
	return w
}

func (x *response) newTwo() *http2Writer {
	if len(x.twos) == 0 {
		x.twos = make([]http2Writer, writersAtOnce)
	}
	w := &x.twos[0]
	x.twos = x.twos[1:]
	x.own(&w.plainWriter)
	return w
}

func (x *response) own(w *plainWriter) {
	x.last = w
	w.response.Store(x)
}

// finish ends the exchange. Callers defer it.
func (x *response) finish() {
	recovered := recover()
	// From here on the writer refuses what a handler that keeps it may try.
	x.last.response.Store(nil)
	if recovered == nil && !x.returned {
		x.done(http.ErrAbortHandler) // runtime.Goexit: it gave up
		return
	}
	x.done(recovered)
	if recovered != nil {
		panic(recovered)
	}
	// After anything unusual somebody may still be at work with it.
	if !x.hijacked {
		x.under, x.writer, x.last, x.Exchange.sender, x.Request = nil, nil, nil, nil, nil
		x.Method, x.Path, x.Route = "", "", ""
		responses.Put(x)
	}
}

// send is when a status line is about to be written.
func (x *response) send(status int) {
	if !x.counted {
		x.Status = status
		x.sent()
	}
}

// wrote counts bytes of the body that go to the client.
func (x *response) wrote(n int64) {
	if n > 0 && x.Method != http.MethodHead {
		x.ResponseSize += n
	}
}

func (x *response) writeHeader(status int) {
	// 1xx announce a status and are none; what is no status at all makes the server panic, and that is counted.
	if status >= 200 && status <= maxStatus || status == http.StatusSwitchingProtocols {
		x.send(status)
	}
	x.under.WriteHeader(status)
}

func (x *response) flush() error {
	x.send(http.StatusOK)
	return http.NewResponseController(x.under).Flush()
}

func (x *response) hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(x.under).Hijack()
	if err == nil {
		x.hijacked = true
		if x.Method == http.MethodConnect {
			x.send(http.StatusOK)
		} else {
			x.send(http.StatusSwitchingProtocols)
		}
	}
	return conn, rw, err
}

// sniffBytes is how much of a body the server reads before it hands the rest to the kernel; more than one byte must be
// there before the status line is certain.
const sniffBytes = 512

// readFrom lets the server copy, by sendfile where it can. The status line is written with the first byte, so a source
// that fails before it has given one leaves the handler free to say something else.
func (x *response) readFrom(src io.Reader) (n int64, err error) {
	if !x.counted {
		n, err = io.CopyBuffer(struct{ io.Writer }{x.writer}, io.LimitReader(src, sniffBytes), x.sniff[:])
		if err != nil || n < sniffBytes {
			return n, err
		}
	}
	rest, err := x.under.(io.ReaderFrom).ReadFrom(src)
	x.wrote(rest)
	return n + rest, err
}

// find returns the exchange of these metrics that w belongs to, nil when there is none.
func find(w http.ResponseWriter, m *Metrics) *Exchange {
	for {
		var x *response
		switch own := w.(type) {
		case *http1Writer:
			x = own.exchange()
		case *http2Writer:
			x = own.exchange()
		case *hijackWriter:
			x = own.exchange()
		case *flushWriter:
			x = own.exchange()
		case *plainWriter:
			x = own.exchange()
		case exchanger:
			e := own.Exchange()
			if e.metrics == m {
				return e
			}
		}
		if x != nil {
			if x.metrics == m {
				return &x.Exchange
			}
			w = x.under
			continue
		}
		u, ok := w.(unwrapper)
		if !ok {
			return nil
		}
		w = u.Unwrap()
	}
}

// exchanger is what an adapter's writer can be, so that it is found as the package's own are.
type exchanger interface{ Exchange() *Exchange }

type unwrapper interface{ Unwrap() http.ResponseWriter }

// reaches reports whether w, or what http.ResponseController finds below it, is a T.
func reaches[T any](w http.ResponseWriter) bool {
	for {
		if _, ok := w.(T); ok {
			return true
		}
		u, ok := w.(unwrapper)
		if !ok {
			return false
		}
		w = u.Unwrap()
	}
}

// errOver is what a handler gets that writes when it has returned.
var errOver = errors.New("httpmetrics: the http.ResponseWriter was used after its handler had returned")

// over is where writers lead whose exchange is over.
var over = &response{Exchange: Exchange{counted: true, Method: http.MethodHead}, under: nowhere{}}

// nowhere writes nothing.
type nowhere struct{}

func (nowhere) Header() http.Header       { return http.Header{} }
func (nowhere) WriteHeader(int)           {}
func (nowhere) Write([]byte) (int, error) { return 0, errOver }
func (nowhere) ReadFrom(io.Reader) (int64, error) {
	return 0, errOver
}
func (nowhere) FlushError() error { return errOver }
func (nowhere) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errOver
}
func (nowhere) Push(string, *http.PushOptions) error { return errOver }
func (nowhere) CloseNotify() <-chan bool             { return make(chan bool) }
