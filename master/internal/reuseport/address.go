package reuseport

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"github.com/onescrape/onescrape/master/internal/proc"
)

// Address is one entry of Config.Listen.
type Address struct {
	Name    string // "" where none was given
	Network string // "tcp" or "unix"; "inherited" for a socket from systemd
	Addr    string

	Blocking bool         // its sockets are made blocking, as systemd's are
	mode     *os.FileMode // of a unix socket; nil: as the umask says
	group    *int         // of a unix socket; nil: this process's
}

// Spec is the address without its name: what makes it the same address in another configuration.
func (a Address) Spec() string {
	switch a.Network {
	case "tcp":
		return a.Addr
	}
	return a.Network + ":" + a.Addr
}

// FDName is the address's entry in LISTEN_FDNAMES.
func (a Address) FDName() string {
	if a.Name == "" {
		return "unknown"
	}
	return a.Name
}

// maxUnixPath is how long the path of a unix socket may be; the kernel wants a zero byte behind it.
const maxUnixPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// ParseAddress takes host:port, unix:PATH?mode=0660&group=NAME, and either after name=.
func ParseAddress(s string) (Address, error) {
	a := Address{Network: "tcp", Addr: s}
	if name, rest, ok := strings.Cut(s, "="); ok && !strings.HasPrefix(s, "unix:") {
		if name == "" || strings.ContainsAny(name, ": \t\n") {
			return a, fmt.Errorf("master: listen address %q: a name has no colons and no spaces and is not empty", s)
		}
		a.Name, a.Addr = name, rest
	}
	if rest, ok := strings.CutPrefix(a.Addr, "unix:"); ok {
		path, options, _ := strings.Cut(rest, "?")
		if path == "" {
			return a, fmt.Errorf("master: listen address %q lacks the path that is to follow \"unix:\"", s)
		}
		if len(path) > maxUnixPath {
			return a, fmt.Errorf("master: listen address %q: its path has %d bytes, of at most %d: name a shorter one", s,
				len(path), maxUnixPath)
		}
		a.Network, a.Addr = "unix", path
		if err := a.takeOptions(options); err != nil {
			return a, fmt.Errorf("master: listen address %q: %w", s, err)
		}
		return a, nil
	}
	if _, _, err := net.SplitHostPort(a.Addr); err != nil {
		return a, fmt.Errorf("master: listen address %q: %w: give host:port, unix:PATH or name=ADDRESS", s, err)
	}
	return a, nil
}

// takeOptions takes what follows the path of a unix socket.
func (a *Address) takeOptions(text string) error {
	options, err := url.ParseQuery(text)
	if err != nil {
		return fmt.Errorf("its options: %w", err)
	}
	if len(options) > 0 && a.Addr[0] == '@' {
		return errors.New("an abstract socket has no mode and no group")
	}
	for key, values := range options {
		value := values[len(values)-1]
		switch key {
		case "mode":
			mode, err := strconv.ParseUint(value, 8, 32)
			if err != nil || mode > 0o777 {
				return fmt.Errorf("mode %q is no octal number up to 0777", value)
			}
			m := os.FileMode(mode)
			a.mode = &m
		case "group":
			gid, err := groupID(value)
			if err != nil {
				return err
			}
			a.group = &gid
		default:
			return fmt.Errorf("there is no option %q: give mode or group", key)
		}
	}
	return nil
}

// groupID returns the number of a group that is given by its name or its number.
func groupID(name string) (int, error) {
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(n), nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(g.Gid)
}

// Holders returns the other processes that listen at the address, as far as this user may see them.
func (a Address) Holders() []proc.Holder {
	if a.Network == "unix" {
		return proc.Holders(proc.AtPath(a.Addr))
	}
	return proc.Holders(proc.AtPort(a.Addr[strings.LastIndex(a.Addr, ":")+1:]))
}

// Overlap reports whether two addresses of TCP, host:port, cannot be listened on at once.
func Overlap(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" || portA == "" {
		return false
	}
	return sameHost(hostA, hostB)
}

// sameHost reports whether two hosts are the same, or one of them stands for all addresses of a family that the other is of.
func sameHost(a, b string) bool {
	every := func(host string) bool { return host == "" || host == "::" || host == "0.0.0.0" }
	if a == b || every(a) && every(b) {
		return true
	}
	if every(b) {
		a, b = b, a
	}
	if a == "0.0.0.0" {
		ip := net.ParseIP(b)
		return ip == nil || ip.To4() != nil
	}
	loopback := func(host string) bool { return host == "localhost" || host == "127.0.0.1" }
	return every(a) || loopback(a) && loopback(b)
}
