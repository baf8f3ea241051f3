// Package endpoint is the master's own port: metrics, health, status, and a page for people.
package endpoint

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/onescrape/onescrape/master/connlimit"
	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/reuseport"
	"golang.org/x/sys/unix"
)

// Off is the address of an endpoint that there is not.
const Off = "off"

// Config says where an endpoint listens and what it serves.
type Config struct {
	Listen  string       // host:port, or Off
	Handler http.Handler // answers the requests
	// Serve serves on a listener until that is closed. nil: http.Server.Serve.
	Serve  func(net.Listener, *http.Server) error
	Logger *slog.Logger
}

// Endpoint is the master's own port. Its socket outlives the server on it: before an upgrade the server ends and the socket
// stays, so that scrapes wait in its queue for the next one. The control goroutine calls its methods; the nil Endpoint is one
// that is off.
type Endpoint struct {
	cfg    Config
	fd     int           // listens; the Endpoint's as long as it lives
	text   string        // where it listens
	server *scrapeServer // nil while it is paused
}

// Open opens the port; nil when it is off.
func Open(cfg Config) (*Endpoint, error) {
	if cfg.Listen == Off {
		return nil, nil
	}
	fd, err := reuseport.ListenTCP(cfg.Listen)
	if err != nil {
		if reuseport.InUse(err) {
			return nil, fmt.Errorf("master: metrics address %s is in use by %s: stop it, or choose another address or off: %w",
				cfg.Listen, proc.Text(reuseport.Address{Network: "tcp", Addr: cfg.Listen}.Holders()), err)
		}
		return nil, fmt.Errorf("master: metrics address %s: %w", cfg.Listen, err)
	}
	return On(cfg, fd)
}

// On serves a socket that listens, and takes it over.
func On(cfg Config, fd int) (*Endpoint, error) {
	text, err := reuseport.BoundAddress(fd)
	if err != nil {
		return nil, fmt.Errorf("master: metrics address: %w", err)
	}
	return &Endpoint{cfg: cfg, fd: fd, text: text}, nil
}

// FD returns the descriptor of the listening socket; -1 when the endpoint is off.
func (e *Endpoint) FD() int {
	if e == nil {
		return -1
	}
	return e.fd
}

// Listen returns where the endpoint is configured to listen; "" when it is off.
func (e *Endpoint) Listen() string {
	if e == nil {
		return ""
	}
	return e.cfg.Listen
}

// Address returns where the endpoint listens, with the port that the system chose for port 0; "" when it is off.
func (e *Endpoint) Address() string {
	if e == nil {
		return ""
	}
	return e.text
}

// Start serves until Pause. It does nothing when the endpoint is served.
func (e *Endpoint) Start() error {
	if e == nil || e.server != nil {
		return nil
	}
	fd, err := unix.FcntlInt(uintptr(e.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("master: metrics address %s: %w", e.text, os.NewSyscallError("fcntl", err))
	}
	f := os.NewFile(uintptr(fd), e.text)
	defer f.Close()
	accept, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("master: metrics address %s: %w", e.text, err)
	}
	e.server = newScrapeServer(e.cfg, connlimit.New(accept, connlimit.Max()))
	go e.server.run(e.cfg, e.text)
	return nil
}

// Pause ends the server when it has answered what it accepted. The socket stays open, and what arrives waits in it. The
// method does not wait: the channel that it returns is closed when the server has ended.
func (e *Endpoint) Pause() (over <-chan struct{}) {
	ended := make(chan struct{})
	if e == nil || e.server == nil {
		close(ended)
		return ended
	}
	server := e.server
	e.server = nil
	server.pausing.Store(true)
	server.accept.Close()
	go func() {
		defer close(ended)
		server.finish()
	}()
	return ended
}

// Close ends the endpoint. Scrapes that are being answered get a moment.
func (e *Endpoint) Close() {
	if e == nil {
		return
	}
	select {
	case <-e.Pause():
	case <-time.After(CloseTime):
	}
	unix.Close(e.fd)
}
