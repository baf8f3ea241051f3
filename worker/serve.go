package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"sync/atomic"

	"github.com/onescrape/onescrape/worker/drain"
	"github.com/onescrape/onescrape/worker/internal/listeners"
	"github.com/onescrape/onescrape/worker/sdnotify"
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
	conns := drain.NewConnections()
	w.take(srv, conns)

	ended := make(chan error, len(w.listeners))
	for _, l := range w.listeners {
		listeners.DeferAccept(l.Listener)
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
	listeners.CloseAll(w.listeners)
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
func (w *Worker) take(srv *http.Server, conns *drain.Connections) {
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
		conns.Note(c, s)
		if state != nil {
			state(c, s)
		}
	}
	if srv.BaseContext == nil {
		srv.BaseContext = func(net.Listener) context.Context { return w.life }
	}
}

// finish waits for the connections and closes what is left of them.
func (w *Worker) finish(srv *http.Server, conns *drain.Connections) error {
	quiet := conns.Quiet(w.life, w.linger)
	if quiet == nil {
		return srv.Shutdown(w.life)
	}
	// The requests were just told to give up; those that do may still write their answer.
	ctx, cancel := context.WithTimeout(context.Background(), w.margin()/2)
	defer cancel()
	if conns.Quiet(ctx, 0) == nil {
		srv.Close()
		return nil
	}
	n := conns.Busy()
	srv.Close()
	if errors.Is(context.Cause(w.life), errQuick) {
		return nil
	}
	return fmt.Errorf("worker: drain: %d connections were still busy after %v and were cut off", n, w.graceful)
}

// Recycle asks the master for a successor. The master starts one on the same sockets, and tells this process to drain when
// the successor is ready, as in a rolling restart. Until then this process goes on. Without a master Recycle does nothing.
// It is safe for concurrent use, and a second call has no effect.
func (w *Worker) Recycle() {
	if w.recycled.CompareAndSwap(false, true) {
		if err := w.tell("X_ONESCRAPE_RECYCLE=1"); err != nil {
			w.recycled.Store(false)
		}
	}
}

// budget counts requests down and says when they are used up; a budget of 0 is never.
type budget struct {
	limit int64
	used  atomic.Int64
}

// spend takes one and reports whether it was the last.
func (b *budget) spend() bool { return b.limit > 0 && b.used.Add(1) == b.limit }

// Healthy makes the watchdog depend on check: the worker sends WATCHDOG=1 to the master only while check returns nil. The
// context of check ends when its answer would be too late. Without Healthy every worker that runs counts as healthy.
// Without a watchdog in the master's configuration check is never called. Call Healthy before Ready. check must be safe for
// concurrent use.
func (w *Worker) Healthy(check func(context.Context) error) { w.check.Store(&check) }

// watch sends WATCHDOG=1 twice in each period in which the master expects one.
func (w *Worker) watch(period time.Duration) {
	tick := time.NewTicker(period / 2)
	defer tick.Stop()
	for {
		w.pulse(period / 2)
		select {
		case <-tick.C:
		case <-w.closing.done:
			return
		}
	}
}

func (w *Worker) pulse(limit time.Duration) {
	if check := w.check.Load(); check != nil && *check != nil {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if err := (*check)(ctx); err != nil {
			w.tell("STATUS=" + sdnotify.OneLine("not healthy: "+err.Error()))
			return
		}
	}
	w.tell("WATCHDOG=1")
}
