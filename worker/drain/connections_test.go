package drain

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the wait of a drain does with connections in each state, without a clock.
func TestRest(t *testing.T) {
	began := time.Now()
	at := func(d time.Duration) time.Time { return began.Add(d) }
	conn := func(s http.ConnState, since time.Duration) connection { return connection{s, at(since)} }
	const linger = time.Second
	for name, test := range map[string]struct {
		open  []connection
		now   time.Duration
		left  time.Duration
		known bool
	}{
		"none":            {known: true},
		"idle since long": {open: []connection{conn(http.StateIdle, -time.Hour)}, left: linger, known: true},
		"idle for a while": {open: []connection{conn(http.StateIdle, 0)}, now: linger / 4, left: linger * 3 / 4,
			known: true},
		"idle long enough": {open: []connection{conn(http.StateIdle, 0)}, now: linger, known: true},
		"idle after the drain began": {open: []connection{conn(http.StateIdle, linger)}, now: linger, left: linger,
			known: true},
		"active": {open: []connection{conn(http.StateActive, 0)}, now: time.Hour},
		"new": {open: []connection{conn(http.StateNew, 0)}, now: linger, left: silentAfter - linger,
			known: true},
		"silent": {open: []connection{conn(http.StateNew, 0)}, now: silentAfter, known: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewConnections()
			for _, o := range test.open {
				a, b := net.Pipe()
				b.Close()
				c.open[a] = o
			}
			left, known := c.rest(began, at(test.now), linger)
			assert.Equal(t, test.known, known)
			if known {
				assert.Equal(t, test.left, max(left, 0))
			}
		})
	}
}

// A server is quiet when its one connection has been answered, and not before.
func TestQuiet(t *testing.T) {
	conns, answer := NewConnections(), make(chan struct{})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-answer }))
	srv.Config.ConnState = conns.Note
	srv.Start()
	defer srv.Close()
	answered := make(chan error, 1)
	go func() {
		r, err := http.Get(srv.URL)
		if err == nil {
			r.Body.Close()
		}
		answered <- err
	}()
	require.Eventually(t, func() bool { return conns.Busy() == 1 }, time.Minute, time.Millisecond)
	quiet := make(chan error, 1)
	go func() { quiet <- conns.Quiet(t.Context(), 0) }()
	select {
	case <-quiet:
		require.Fail(t, "quiet while a request is being answered")
	default:
	}
	close(answer)
	require.NoError(t, <-answered)
	require.NoError(t, <-quiet)
	assert.Zero(t, conns.Busy())
}
