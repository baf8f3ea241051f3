package worker

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// notifier speaks sd_notify's protocol: datagrams of lines KEY=VALUE to the socket that the supervisor named. The nil
// notifier is one of a process that nobody supervises; what it is told goes nowhere. Safe for concurrent use.
type notifier struct{ addr *net.UnixAddr }

// newNotifier takes the value of NOTIFY_SOCKET: a path, or an abstract name after an @; "" gives nil.
func newNotifier(socket string) *notifier {
	if socket == "" {
		return nil
	}
	return &notifier{addr: &net.UnixAddr{Name: socket, Net: "unixgram"}}
}

// send sends the lines as one datagram.
func (n *notifier) send(lines ...string) error {
	if n == nil {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, n.addr)
	if err != nil {
		return fmt.Errorf("worker: notify: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("worker: notify: %w", err)
	}
	return nil
}

// oneLine keeps a text from ending its line early.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == 0 {
			return ' '
		}
		return r
	}, s)
}

// takeEnv returns a variable and removes it, so that no child of this process takes it for its own.
func takeEnv(key string) string {
	v := os.Getenv(key)
	os.Unsetenv(key)
	return v
}
