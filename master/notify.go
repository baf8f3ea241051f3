package master

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// notifySocket is where one worker says READY=1 and so on. Each worker has its own, so that what is heard needs no
// guess at who said it; on Linux the sender's pid is checked too.
type notifySocket struct {
	conn *net.UnixConn
	name string // for NOTIFY_SOCKET
}

// notice is what one datagram said, or that the reader of a worker's socket has ended (over).
type notice struct {
	from   *process
	sender int // 0: unknown
	fields map[string]string
	over   bool
}

// newNotifySocket opens a socket for a worker.
func newNotifySocket() (*notifySocket, error) {
	name, err := notifyName()
	if err != nil {
		return nil, fmt.Errorf("master: notify socket: %w", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("master: notify socket: %w", err)
	}
	n := &notifySocket{conn: conn, name: name}
	if err := n.control(wantSender); err != nil {
		n.close()
		return nil, fmt.Errorf("master: notify socket: %w", err)
	}
	return n, nil
}

func (n *notifySocket) control(f func(fd int) error) error {
	raw, err := n.conn.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

func (n *notifySocket) close() {
	n.conn.Close()
	forgetNotifyName(n.name)
}

// listen passes on what the worker says until finish is called; then what has arrived by then, and that it is over.
func (n *notifySocket) listen(p *process, out chan<- notice) {
	for {
		message, sender, err := n.receive()
		if err != nil {
			break
		}
		out <- notice{from: p, sender: sender, fields: parseFields(message)}
	}
	// The deadline that ended the loop also hides what had already arrived: a last word and an exit come together.
	n.control(func(fd int) error {
		for {
			message, sender, err := receiveFrom(fd)
			if err != nil {
				return nil
			}
			out <- notice{from: p, sender: sender, fields: parseFields(message)}
		}
	})
	out <- notice{from: p, over: true}
}

// finish ends listen.
func (n *notifySocket) finish() { n.conn.SetReadDeadline(time.Unix(1, 0)) }

func (n *notifySocket) receive() (message string, sender int, err error) {
	raw, err := n.conn.SyscallConn()
	if err != nil {
		return "", 0, err
	}
	var inner error
	err = raw.Read(func(fd uintptr) bool {
		message, sender, inner = receiveFrom(int(fd))
		return !errors.Is(inner, syscall.EAGAIN)
	})
	return message, sender, errors.Join(err, inner)
}

// parseFields takes a datagram of lines KEY=VALUE.
func parseFields(message string) map[string]string {
	fields := make(map[string]string)
	for line := range strings.SplitSeq(message, "\n") {
		if key, value, ok := strings.Cut(line, "="); ok {
			fields[key] = value
		}
	}
	return fields
}

// manager is the supervisor of the master itself, which is systemd as a rule; the nil one hears nothing.
type manager struct{ addr *net.UnixAddr }

// newManager takes NOTIFY_SOCKET out of the environment of the workers-to-be, but leaves it in that of the process: an
// upgrade in place needs it again.
func newManager() *manager {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	return &manager{addr: &net.UnixAddr{Name: name, Net: "unixgram"}}
}

// tell sends lines as one datagram. A manager that does not listen is no reason to stop.
func (m *manager) tell(lines ...string) {
	if m == nil {
		return
	}
	if c, err := net.DialUnix("unixgram", nil, m.addr); err == nil {
		c.Write([]byte(strings.Join(lines, "\n")))
		c.Close()
	}
}
