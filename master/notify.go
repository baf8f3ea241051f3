package master

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// notifySocket is where one worker says READY=1 and so on. Each worker has its own. On Linux its abstract name is known to
// every local user, so a datagram counts only when the kernel says that the worker's own process sent it, whatever user
// that has become; a command may give up its privileges before it is ready.
type notifySocket struct {
	conn *net.UnixConn
	name string // for NOTIFY_SOCKET

	asked    atomic.Uint32 // counts the looks that were asked for
	finished atomic.Bool   // the reader is to end
	strays   strays        // the reader's
	warned   bool          // the reader's: another process said READY=1
}

// message is what the reader of a worker's socket passes on: what the worker sent, or something about the socket itself.
type message struct {
	from         *process
	fields       map[string]string // of a datagram of the worker's own process
	foreignReady int               // the pid of another process that said READY=1; at most once
	answered     uint32            // everything that had arrived when this look was asked for came before
	over         bool              // the reader has ended
}

// datagram is one message and who sent it, as far as the kernel says so.
type datagram struct {
	text string
	pid  int // of the sender; unknownSender where the system does not say it
	uid  int
	fds  []int // that came along; the receiver's to close
}

// unknownSender is the pid of a sender where the system does not name it. Linux always does: it says 0 for a process that
// this process's pid namespace does not have.
const unknownSender = -1

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

// listen passes on what the worker says until finish is called; then what has arrived by then, and that it is over. It runs
// in a goroutine of its own.
func (n *notifySocket) listen(p *process, out chan<- message) {
	var answered uint32
	for {
		asked := n.asked.Load()
		if n.finished.Load() {
			n.drain(p, out)
			out <- message{from: p, over: true}
			return
		}
		if asked != answered {
			n.drain(p, out)
			out <- message{from: p, answered: asked}
			answered = asked
			continue
		}
		n.conn.SetReadDeadline(time.Time{})
		if n.asked.Load() != asked || n.finished.Load() {
			continue // its deadline was just taken away
		}
		d, err := n.receive()
		if err == nil {
			n.pass(p, d, out)
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			out <- message{from: p, over: true}
			return
		}
	}
}

// finish ends listen.
func (n *notifySocket) finish() {
	n.finished.Store(true)
	n.interrupt()
}

// look asks for a notice that comes after everything that has arrived by now, and returns the number that it has.
func (n *notifySocket) look() uint32 {
	number := n.asked.Add(1)
	n.interrupt()
	return number
}

// interrupt ends a receive that waits.
func (n *notifySocket) interrupt() { n.conn.SetReadDeadline(time.Unix(1, 0)) }

// queued is how many datagrams drain takes at most. It is more than a queue holds (net.unix.max_dgram_qlen, 512 where
// systemd sets it), and a limit, so that a sender without end cannot keep drain from ending.
const queued = 1024

// drain passes on what has arrived, without waiting.
func (n *notifySocket) drain(p *process, out chan<- message) {
	for range queued {
		var d datagram
		if err := n.control(func(fd int) (err error) {
			d, err = receiveFrom(fd)
			return err
		}); err != nil {
			return
		}
		n.pass(p, d, out)
	}
}

func (n *notifySocket) receive() (d datagram, err error) {
	raw, err := n.conn.SyscallConn()
	if err != nil {
		return d, err
	}
	var inner error
	err = raw.Read(func(fd uintptr) bool {
		d, inner = receiveFrom(int(fd))
		return !errors.Is(inner, syscall.EAGAIN)
	})
	return d, errors.Join(err, inner)
}

// pass gets rid of the descriptors that came with a datagram, before anything else is looked at, and passes it on if the
// worker's own process sent it. A process of the same user that says READY=1 is worth a word: it is most likely the server
// that a command has started.
func (n *notifySocket) pass(p *process, d datagram, out chan<- message) {
	if !n.strays.close(d.fds) {
		n.control(refuseDescriptors)
	}
	if d.pid == p.pid || d.pid == unknownSender {
		out <- message{from: p, fields: parseFields(d.text)}
		return
	}
	if !n.warned && (d.uid == os.Geteuid() || d.uid == 0) && parseFields(d.text)["READY"] == "1" {
		n.warned = true
		out <- message{from: p, foreignReady: d.pid}
	}
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

// tell sends lines as one datagram and reports whether that is settled: a manager that does not listen is no reason to stop.
// It does not wait; where the manager's queue is full it returns false, and the lines are to be sent again later.
func (m *manager) tell(lines ...string) (settled bool) {
	if m == nil {
		return true
	}
	c, err := net.DialUnix("unixgram", nil, m.addr)
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
