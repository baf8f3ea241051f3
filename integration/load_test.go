package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// load sends requests from several clients at full speed. It speaks HTTP over plain connections and repeats nothing,
// because net/http's client sends a request again when a kept connection breaks under it, which would hide just what is
// looked for.
type load struct {
	sent     atomic.Int64 // begun: at least the connection was tried
	answered atomic.Int64 // read to the last byte
	failed   atomic.Int64
	slowest  atomic.Int64 // nanoseconds

	stopping atomic.Bool
	clients  sync.WaitGroup

	mu     sync.Mutex
	errors []string // the first few
}

// loadTimeout ends a request that nobody answers; it then counts as failed.
const loadTimeout = time.Minute

// startLoad starts that many clients, with a new connection for each request or with kept ones. Each asks for the paths
// in turn.
func startLoad(addr string, clients int, keepAlive bool, paths ...string) *load {
	l := &load{}
	if len(paths) == 0 {
		paths = []string{"/"}
	}
	for i := range clients {
		l.clients.Go(func() { l.client(addr, keepAlive, paths, i) })
	}
	return l
}

// stop lets every client finish its request.
func (l *load) stop() {
	l.stopping.Store(true)
	l.clients.Wait()
}

func (l *load) client(addr string, keepAlive bool, paths []string, first int) {
	var c *clientConn
	for i := first; !l.stopping.Load(); i++ {
		l.sent.Add(1)
		start := time.Now()
		err := func() (err error) {
			if c == nil {
				if c, err = dial(addr); err != nil {
					return err
				}
			}
			return c.do(paths[i%len(paths)], keepAlive)
		}()
		for took := int64(time.Since(start)); ; {
			if old := l.slowest.Load(); took <= old || l.slowest.CompareAndSwap(old, took) {
				break
			}
		}
		if err != nil {
			l.fail(err)
		} else {
			l.answered.Add(1)
		}
		if c != nil && (err != nil || c.last) {
			c.Close()
			c = nil
		}
	}
	if c != nil {
		c.Close()
	}
}

func (l *load) fail(err error) {
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.errors) < 20 {
		l.errors = append(l.errors, fmt.Sprintf("%s %v", time.Now().Format("15:04:05.000"), err))
	}
}

// failures are the first few errors.
func (l *load) failures() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.errors
}

// clientConn is one client's connection.
type clientConn struct {
	net.Conn
	r    *bufio.Reader
	last bool // the other side closes it
	n    int  // requests that were answered on it
}

func dial(addr string) (*clientConn, error) {
	conn, err := net.DialTimeout("tcp", addr, loadTimeout)
	if err != nil {
		return nil, err
	}
	return &clientConn{Conn: conn, r: bufio.NewReader(conn)}, nil
}

func (c *clientConn) do(path string, keepAlive bool) error {
	header := ""
	if !keepAlive {
		header = "Connection: close\r\n"
	}
	if err := c.SetDeadline(time.Now().Add(loadTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: test\r\n%s\r\n", path, header); err != nil {
		return fmt.Errorf("write after %d answers: %w", c.n, err)
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return fmt.Errorf("read after %d answers: %w", c.n, err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("body after %d answers: %w", c.n, err)
	}
	c.n++
	c.last = resp.Close || !keepAlive
	return nil
}
