// Package connlimit limits the open connections of a server that strangers can reach, and keeps room for those that ask
// for something: at the limit, a new connection takes the place of one on which nothing happens.
package connlimit

import (
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

const (
	// most is how many connections may be open.
	most = 64
	// young is the age below which a connection without a request is left alone: its request is on its way.
	young = 250 * time.Millisecond
	// stalled is how long nothing of an answer can be written until its connection counts as silent.
	stalled = 5 * time.Second
	// poll is how often a connection that waits for room looks again.
	poll = 50 * time.Millisecond
	// piece is how much is written at once, so that it shows whether a reader makes progress.
	piece = 32 << 10
)

// Max returns how many connections a server may have open: 64, and never more than a quarter of the descriptors that
// this process may have.
func Max() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil && limit.Cur/4 < most {
		return max(1, int(limit.Cur/4))
	}
	return most
}

// Listener is a listener with a limit. At the limit, the connection that has been silent for longest is closed for a new
// one. A connection is silent when no request of it is being answered and it is older than 250 ms, or when nothing of
// an answer could be written for 5 s. When none is silent, the new one waits. Its methods may be called by several
// goroutines at once.
type Listener struct {
	net.Listener
	max int

	mu      sync.Mutex
	open    map[*conn]struct{} // guarded by mu
	closed  bool               // guarded by mu
	changed chan struct{}      // has room for one: a connection was closed, or the listener was
}

// New returns l with a limit of max connections. The server must call Note as its ConnState.
func New(l net.Listener, max int) *Listener {
	return &Listener{Listener: l, max: max, open: make(map[*conn]struct{}), changed: make(chan struct{}, 1)}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, listener: l, since: time.Now()}
	for !l.admit(c) {
		if victim := l.longestSilent(time.Now()); victim != nil {
			victim.Close()
			continue
		}
		select {
		case <-l.changed:
		case <-time.After(poll):
		}
	}
	return c, nil
}

// Close implements net.Listener. A connection that waits for room is accepted at once: nobody else would answer it.
func (l *Listener) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.wake()
	return l.Listener.Close()
}

// admit takes the connection in, unless there is no room.
func (l *Listener) admit(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= l.max && !l.closed {
		return false
	}
	l.open[c] = struct{}{}
	return true
}

// longestSilent returns the connection that has been silent for longest; nil when there is none.
func (l *Listener) longestSilent(now time.Time) (victim *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var oldest time.Time
	for c := range l.open {
		since, ok := c.silentSince(now)
		if ok && (victim == nil || since.Before(oldest)) {
			victim, oldest = c, since
		}
	}
	return victim
}

// Busy reports whether a request is being answered whose client reads the answer. With fresh it also reports whether
// there is a connection on which the first request has not come yet.
func (l *Listener) Busy(fresh bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for c := range l.open {
		if _, silent := c.silentSince(now); c.active && !silent || fresh && !c.active && !c.used {
			return true
		}
	}
	return false
}

// Note is the server's ConnState: it says which connections have a request.
func (l *Listener) Note(nc net.Conn, s http.ConnState) {
	c := own(nc)
	if c == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.active = s == http.StateActive || s == http.StateHijacked
	c.used = c.used || c.active
	c.since = time.Now()
}

// own returns the connection of a Listener, which TLS may have wrapped.
func own(nc net.Conn) *conn {
	for {
		switch c := nc.(type) {
		case *conn:
			return c
		case interface{ NetConn() net.Conn }:
			nc = c.NetConn()
		default:
			return nil
		}
	}
}

// remove forgets a connection that was closed.
func (l *Listener) remove(c *conn) {
	l.mu.Lock()
	delete(l.open, c)
	l.mu.Unlock()
	l.wake()
}

func (l *Listener) wake() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// conn is one connection. The listener's lock guards its fields.
type conn struct {
	net.Conn
	listener *Listener
	closing  sync.Once

	active  bool      // a request is being answered
	used    bool      // there has been a request
	since   time.Time // of the last change of active
	writing time.Time // when the piece was begun that is being written; zero: none is
}

// silentSince returns since when nothing has happened on the connection. The caller holds the listener's lock.
func (c *conn) silentSince(now time.Time) (since time.Time, silent bool) {
	if c.active {
		return c.writing, !c.writing.IsZero() && now.Sub(c.writing) >= stalled
	}
	return c.since, now.Sub(c.since) >= young
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (n int, err error) {
	defer c.note(time.Time{})
	for {
		c.note(time.Now())
		m, err := c.Conn.Write(b[n:min(len(b), n+piece)])
		n += m
		if err != nil || n == len(b) {
			return n, err
		}
	}
}

func (c *conn) note(writing time.Time) {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.writing = writing
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.closing.Do(func() { c.listener.remove(c) })
	return c.Conn.Close()
}
