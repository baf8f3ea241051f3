package master

import (
	"fmt"
	"net"
	"strings"
	"syscall"
)

// address is one entry of Config.Listen.
type address struct {
	name    string // "" where none was given
	network string // "tcp" or "unix"; "inherited" for a socket from systemd
	addr    string
}

// spec is the address without its name: what makes it the same address in another configuration.
func (a address) spec() string {
	switch a.network {
	case "tcp":
		return a.addr
	}
	return a.network + ":" + a.addr
}

// fdName is the address's entry in LISTEN_FDNAMES.
func (a address) fdName() string {
	if a.name == "" {
		return "unknown"
	}
	return a.name
}

// maxUnixPath is how long the path of a unix socket may be; the kernel wants a zero byte behind it.
const maxUnixPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// parseAddress takes host:port, unix:PATH, and either after name=.
func parseAddress(s string) (address, error) {
	a := address{network: "tcp", addr: s}
	if name, rest, ok := strings.Cut(s, "="); ok && !strings.HasPrefix(s, "unix:") {
		if name == "" || strings.ContainsAny(name, ": \t\n") {
			return a, fmt.Errorf("master: listen address %q: a name has no colons and no spaces and is not empty", s)
		}
		a.name, a.addr = name, rest
	}
	if path, ok := strings.CutPrefix(a.addr, "unix:"); ok {
		if path == "" {
			return a, fmt.Errorf("master: listen address %q lacks the path that is to follow \"unix:\"", s)
		}
		if len(path) > maxUnixPath {
			return a, fmt.Errorf("master: listen address %q: its path has %d bytes, of at most %d: name a shorter one", s,
				len(path), maxUnixPath)
		}
		a.network, a.addr = "unix", path
		return a, nil
	}
	if _, _, err := net.SplitHostPort(a.addr); err != nil {
		return a, fmt.Errorf("master: listen address %q: %w: give host:port, unix:PATH or name=ADDRESS", s, err)
	}
	return a, nil
}
