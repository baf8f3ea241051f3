package sdnotify

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Notifier sends to a supervisor: datagrams of lines KEY=VALUE. The nil Notifier belongs to a process that nobody supervises, and
// sends nothing. Safe for concurrent use.
type Notifier struct{ addr *net.UnixAddr }

// NewNotifier takes the value of NOTIFY_SOCKET: a path, or an abstract name after an @. "" gives nil.
func NewNotifier(socket string) *Notifier {
	if socket == "" {
		return nil
	}
	return &Notifier{addr: &net.UnixAddr{Name: socket, Net: "unixgram"}}
}

// Send sends the lines as one datagram. It waits while the supervisor's queue is full.
func (n *Notifier) Send(lines ...string) error {
	if n == nil {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, n.addr)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}

// TrySend is Send without waiting. It returns false when the supervisor's queue is full: the lines should be sent again later. A
// supervisor that does not listen counts as told.
func (n *Notifier) TrySend(lines ...string) (settled bool) {
	if n == nil {
		return true
	}
	c, err := net.DialUnix("unixgram", nil, n.addr)
	if err != nil {
		return true
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	var sent error
	raw.Control(func(fd uintptr) { sent = unix.Send(int(fd), []byte(strings.Join(lines, "\n")), unix.MSG_DONTWAIT) })
	return !errors.Is(sent, unix.EAGAIN) && !errors.Is(sent, unix.ENOBUFS)
}

// OneLine replaces what would end a line of a datagram early by spaces.
func OneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == 0 {
			return ' '
		}
		return r
	}, s)
}

// Fields reads a datagram of lines KEY=VALUE. Of a key that is there twice the last line counts.
func Fields(datagram string) map[string]string {
	fields := make(map[string]string)
	for line := range strings.SplitSeq(datagram, "\n") {
		if key, value, ok := strings.Cut(line, "="); ok {
			fields[key] = value
		}
	}
	return fields
}

// TakeEnv returns a variable and removes it, so that no child of this process takes it for its own.
func TakeEnv(key string) string {
	value := os.Getenv(key)
	os.Unsetenv(key)
	return value
}
