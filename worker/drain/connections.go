// Package drain waits until the open connections of an http.Server may be closed without losing a request.
//
// http.Server.Shutdown is not enough: net/http does not answer a request that it reads after Shutdown was called, on a new or an idle
// connection.
package drain

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// silentAfter is after how long a connection that has sent nothing counts as idle, as http.Server.Shutdown has it.
const silentAfter = 5 * time.Second

// Connections knows what the open connections of a server do. Safe for concurrent use.
type Connections struct {
	mu      sync.Mutex
	open    map[net.Conn]connection // guarded by mu
	changed chan struct{}           // has room for one: something went idle or away
}

type connection struct {
	state http.ConnState
	since time.Time
}

// NewConnections returns Connections of a server that has none yet. The server must call Note as its ConnState.
func NewConnections() *Connections {
	return &Connections{open: make(map[net.Conn]connection), changed: make(chan struct{}, 1)}
}

// Note is a http.Server's ConnState.
func (c *Connections) Note(conn net.Conn, s http.ConnState) {
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

// Busy returns how many connections are new or active.
func (c *Connections) Busy() (n int) {
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
func (c *Connections) rest(began, now time.Time, linger time.Duration) (time.Duration, bool) {
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

// Quiet waits until no connection is new or active and each has been idle for linger. It returns ctx's error when that
// ends first.
func (c *Connections) Quiet(ctx context.Context, linger time.Duration) error {
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
