package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Serve runs an HTTP server as a worker: it serves on all listeners, calls Ready, and ends after the drain begins, so that
// no request is lost. It returns nil after a clean drain, and an error when connections had to be cut off because the
// graceful timeout was over, or when a listener broke. The last Serve to return has called Close.
//
// The drain does not begin with srv.Shutdown, because net/http does not answer a request that it reads after that, on new
// and on idle connections. Instead Serve closes the listeners, counts the accepted connections, and adds Connection: close
// to every answer. When no connection is new or busy, and each has been idle for the linger time, Shutdown closes the rest.
// A client whose next request comes after a longer pause can still meet a closed connection, as with any server that closes
// idle connections. A connection on which nothing arrived for five seconds counts as idle, as it does for Shutdown.
//
// Serve changes srv: it wraps Handler and ConnState, and sets BaseContext to the worker's Context if it is nil.
func (w *Worker) Serve(srv *http.Server) error { return w.serve(srv, srv.Serve) }

// ServeTLS is Serve with TLS, as http.Server.ServeTLS: the files may be "" where srv.TLSConfig has the certificates.
func (w *Worker) ServeTLS(srv *http.Server, certFile, keyFile string) error {
	return w.serve(srv, func(l net.Listener) error { return srv.ServeTLS(l, certFile, keyFile) })
}

func (w *Worker) serve(srv *http.Server, accept func(net.Listener) error) (err error) {
	if len(w.listeners) == 0 {
		return errors.New("worker: serve: no listeners: the environment has no sockets and FromEnvironment was given no " +
			"address")
	}
	w.mu.Lock()
	w.serves++
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.serves--
		last := w.serves == 0
		w.mu.Unlock()
		if last {
			err = errors.Join(err, w.Close())
		}
	}()
	conns := newConnections()
	w.take(srv, conns)

	ended := make(chan error, len(w.listeners))
	for _, l := range w.listeners {
		deferAccept(l.Listener)
		go func() { ended <- accept(l.Listener) }()
	}
	// The sockets listen since before this process was started, so being ready needs no accept that has begun.
	if err := w.Ready(); err != nil {
		srv.Close()
		return err
	}
	var broken error
	running := len(w.listeners)
	select {
	case <-w.draining:
	case broken = <-ended:
		running--
		w.drain()
	}
	closeAll(w.listeners)
	// When Serve has returned, every connection that was accepted has been seen by ConnState.
	for ; running > 0; running-- {
		<-ended
	}
	err = w.finish(srv, conns)
	if broken != nil && !errors.Is(broken, http.ErrServerClosed) {
		err = errors.Join(fmt.Errorf("worker: serve: %w", broken), err)
	}
	return err
}

// take puts the worker's hooks into the server.
func (w *Worker) take(srv *http.Server, conns *connections) {
	next := srv.Handler
	if next == nil {
		next = http.DefaultServeMux
	}
	srv.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.requests.spend() {
			w.Recycle()
		}
		if w.isDraining() {
			rw.Header().Set("Connection", "close")
		}
		next.ServeHTTP(rw, r)
	})
	state := srv.ConnState
	srv.ConnState = func(c net.Conn, s http.ConnState) {
		conns.note(c, s)
		if state != nil {
			state(c, s)
		}
	}
	if srv.BaseContext == nil {
		srv.BaseContext = func(net.Listener) context.Context { return w.life }
	}
}

// finish waits for the connections and closes what is left of them.
func (w *Worker) finish(srv *http.Server, conns *connections) error {
	quiet := conns.quiet(w.life, w.linger)
	if quiet == nil {
		return srv.Shutdown(w.life)
	}
	// The requests were just told to give up; those that do may still write their answer.
	ctx, cancel := context.WithTimeout(context.Background(), w.margin()/2)
	defer cancel()
	if conns.quiet(ctx, 0) == nil {
		srv.Close()
		return nil
	}
	n := conns.busy()
	srv.Close()
	if errors.Is(context.Cause(w.life), errQuick) {
		return nil
	}
	return fmt.Errorf("worker: drain: %d connections were still busy after %v and were cut off", n, w.graceful)
}

// silent is after how long a connection that has sent nothing counts as idle, as http.Server.Shutdown has it.
const silentAfter = 5 * time.Second

// connections knows what the open connections of a server do.
type connections struct {
	mu      sync.Mutex
	open    map[net.Conn]connection // guarded by mu
	changed chan struct{}           // has room for one: something went idle or away
}

type connection struct {
	state http.ConnState
	since time.Time
}

func newConnections() *connections {
	return &connections{open: make(map[net.Conn]connection), changed: make(chan struct{}, 1)}
}

// note is a http.Server's ConnState.
func (c *connections) note(conn net.Conn, s http.ConnState) {
	c.mu.Lock()
	if s == http.StateClosed || s == http.StateHijacked {
		delete(c.open, conn)
	} else {
		c.open[conn] = connection{s, time.Now()}
	}
	c.mu.Unlock()
	if s != http.StateActive && s != http.StateNew {
		select {
		case c.changed <- struct{}{}:
		default:
		}
	}
}

// busy returns how many connections are new or active.
func (c *connections) busy() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.open {
		if o.state != http.StateIdle {
			n++
		}
	}
	return n
}

// rest returns how long it takes until every connection may be closed if nothing happens on any; false when one is
// busy, so that only what happens can tell.
func (c *connections) rest(began, now time.Time, linger time.Duration) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var left time.Duration
	known := true
	for _, o := range c.open {
		since := o.since
		if since.Before(began) {
			since = began
		}
		switch o.state {
		case http.StateIdle:
			left = max(left, linger-now.Sub(since))
		case http.StateNew:
			left = max(left, silentAfter-now.Sub(o.since), linger-now.Sub(since))
		default:
			known = false
		}
	}
	return left, known
}

// quiet waits until no connection is new or active and each has been idle for linger. It returns ctx's error when that
// ends first.
func (c *connections) quiet(ctx context.Context, linger time.Duration) error {
	began := time.Now()
	for {
		left, known := c.rest(began, time.Now(), linger)
		if known && left <= 0 {
			return nil
		}
		var wake <-chan time.Time
		if known {
			wake = time.After(left)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		case <-c.changed:
		}
	}
}
