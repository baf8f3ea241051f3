package connlimit

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// serve starts a server with a limit. It answers /big with more than the buffers of a connection hold.
func serve(t *testing.T, max int) (*Listener, string) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := New(&counting{Listener: inner}, max)
	big := make([]byte, 64<<20)
	srv := &http.Server{ConnState: l.Note, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		if r.URL.Path == "/big" {
			w.Write(big)
			return
		}
		fmt.Fprint(w, "answer")
	})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return l, inner.Addr().String()
}

// counting counts the connections that the kernel has handed out.
type counting struct {
	net.Listener
	accepted atomic.Int64
}

func (c *counting) Accept() (net.Conn, error) {
	nc, err := c.Listener.Accept()
	c.accepted.Add(1)
	return nc, err
}

func dial(t *testing.T, addr, request string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	if request != "" {
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", request)
	}
	return c
}

// ask returns what a new connection gets.
func ask(t *testing.T, addr string) string {
	t.Helper()
	c := dial(t, addr, "/")
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	r, err := io.ReadAll(c)
	require.NoError(t, err)
	return string(r)
}

// count returns how many connections are open.
func (l *Listener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

// writing returns on how many connections an answer is being written.
func (l *Listener) writing() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		if !c.writing.IsZero() {
			n++
		}
	}
	return n
}

func TestIdleConnectionsMakeRoom(t *testing.T) {
	l, addr := serve(t, 4)
	var idle []net.Conn
	for range 4 {
		idle = append(idle, dial(t, addr, ""))
		require.Eventually(t, func() bool { return l.count() == len(idle) }, time.Minute, time.Millisecond)
	}
	for range 20 {
		assert.Contains(t, ask(t, addr), "answer")
		assert.LessOrEqual(t, l.count(), 4)
	}
	require.NoError(t, idle[0].SetDeadline(time.Now().Add(time.Minute)))
	_, err := idle[0].Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF, "the one that was silent for longest has gone")
}

func TestReadersThatDoNotReadMakeRoom(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	l, addr := serve(t, 2)
	for n := 1; n <= 2; n++ {
		dial(t, addr, "/big")
		require.Eventually(t, func() bool { return l.writing() == n }, time.Minute, time.Millisecond)
	}
	began := time.Now()
	assert.Contains(t, ask(t, addr), "answer")
	assert.GreaterOrEqual(t, time.Since(began), stalled/2, "they had their time")
	assert.Equal(t, 1, l.count())
}

// Closing the listener accepts the connection that waits for room, because nobody else can answer it.
func TestConnectionThatWaitsIsNotLost(t *testing.T) {
	l, addr := serve(t, 1)
	dial(t, addr, "/big")
	require.Eventually(t, func() bool { return l.Busy(false) }, time.Minute, time.Millisecond)
	c := dial(t, addr, "/")
	waiting := make(chan string)
	go func() {
		r, _ := io.ReadAll(c)
		waiting <- string(r)
	}()
	accepted := &l.Listener.(*counting).accepted
	require.Eventually(t, func() bool { return accepted.Load() == 2 }, time.Minute, time.Millisecond)
	assert.Equal(t, 1, l.count())
	require.NoError(t, l.Close())
	assert.Contains(t, <-waiting, "answer")
}

func TestBusy(t *testing.T) {
	l, addr := serve(t, 4)
	assert.False(t, l.Busy(true))
	c := dial(t, addr, "")
	require.Eventually(t, func() bool { return l.Busy(true) }, time.Minute, time.Millisecond)
	assert.False(t, l.Busy(false))
	c.Close()
	require.Eventually(t, func() bool { return !l.Busy(true) }, time.Minute, time.Millisecond)
}
