package sdnotify

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Receiver is the socket on which one service says READY=1 and so on. On Linux every local user knows its abstract name, so a
// datagram counts only when the kernel says that the service's own process sent it, whatever user that has become: a service may
// give up its privileges before it is ready. One goroutine runs Run; the other methods are safe for concurrent use.
type Receiver struct {
	conn *net.UnixConn
	name string // for NOTIFY_SOCKET

	asked    atomic.Uint32 // counts the calls of Look
	finished atomic.Bool   // Run must end

	strays strays // Run's
	warned bool   // Run's: another process said READY=1
}

// Message is what Run passes on: what the service sent, or something about the socket itself.
type Message struct {
	Fields       map[string]string // of a datagram of the service's own process
	ForeignReady int               // the pid of another process of this user that said READY=1; at most once
	Answered     uint32            // everything that had arrived when Look returned this number came before
	Over         bool              // Run has ended
}

// datagram is one message and its sender, as far as the kernel names it.
type datagram struct {
	text string
	pid  int // of the sender; unknownSender where the system does not name it
	uid  int
	fds  []int // that came along; the receiver closes them
}

// unknownSender is the pid of a sender where the system does not name it. Linux always does: it says 0 for a process outside of
// this process's pid namespace.
const unknownSender = -1

// NewReceiver opens a socket for a service.
func NewReceiver() (*Receiver, error) {
	name, err := newName()
	if err != nil {
		return nil, fmt.Errorf("notify socket: %w", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("notify socket: %w", err)
	}
	r := &Receiver{conn: conn, name: name}
	if err := r.Control(wantSender); err != nil {
		r.Close()
		return nil, fmt.Errorf("notify socket: %w", err)
	}
	return r, nil
}

// AdoptReceiver goes on with the socket of another Receiver, which is open as descriptor fd under the name. It takes the
// descriptor over.
func AdoptReceiver(fd int, name string) (*Receiver, error) {
	f := os.NewFile(uintptr(fd), name)
	if f == nil {
		return nil, fmt.Errorf("notify socket: %d is not a descriptor", fd)
	}
	syscall.CloseOnExec(fd)
	defer f.Close()
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("notify socket: %w", err)
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("notify socket: the descriptor is not a unix socket")
	}
	return &Receiver{conn: conn, name: name}, nil
}

// Name returns the value of NOTIFY_SOCKET for the service.
func (r *Receiver) Name() string { return r.name }

// Control calls f with the descriptor, which is open during the call.
func (r *Receiver) Control(f func(fd int) error) error {
	raw, err := r.conn.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// Close closes the socket. A Run that has not ended ends.
func (r *Receiver) Close() {
	r.conn.Close()
	forgetName(r.name)
}

// Run passes on what the process pid says until Finish is called. Then it passes on what has arrived by then, at last a Message
// with Over, and returns. It can be called again.
func (r *Receiver) Run(pid int, pass func(Message)) {
	var answered uint32
	for {
		asked := r.asked.Load()
		if r.finished.Load() {
			r.drain(pid, pass)
			pass(Message{Over: true})
			return
		}
		if asked != answered {
			r.drain(pid, pass)
			pass(Message{Answered: asked})
			answered = asked
			continue
		}
		r.conn.SetReadDeadline(time.Time{})
		if r.asked.Load() != asked || r.finished.Load() {
			continue // its deadline was just taken away
		}
		d, err := r.receive()
		if err == nil {
			r.pass(pid, d, pass)
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			pass(Message{Over: true})
			return
		}
	}
}

// Start makes the Receiver ready for another Run after Finish.
func (r *Receiver) Start() { r.finished.Store(false) }

// Finish ends Run.
func (r *Receiver) Finish() {
	r.finished.Store(true)
	r.interrupt()
}

// Look asks Run for a Message that comes after everything that has arrived by now, and returns the number that it has.
func (r *Receiver) Look() uint32 {
	number := r.asked.Add(1)
	r.interrupt()
	return number
}

// interrupt ends a receive that waits.
func (r *Receiver) interrupt() { r.conn.SetReadDeadline(time.Unix(1, 0)) }

// MaxQueued is how many datagrams one drain takes at most. It is more than a queue holds (net.unix.max_dgram_qlen, 512 where
// systemd sets it), and a limit, so that a sender without end cannot keep drain from ending.
const MaxQueued = 1024

// drain passes on what has arrived, without waiting.
func (r *Receiver) drain(pid int, pass func(Message)) {
	for range MaxQueued {
		var d datagram
		if err := r.Control(func(fd int) (err error) {
			d, err = receiveFrom(fd)
			return err
		}); err != nil {
			return
		}
		r.pass(pid, d, pass)
	}
}

func (r *Receiver) receive() (d datagram, err error) {
	raw, err := r.conn.SyscallConn()
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

// pass closes the descriptors that came with a datagram, before it looks at anything else. It passes the datagram on if the
// service's own process sent it. Of other processes only a READY=1 of this user matters: it most likely comes from the server
// that a command has started.
func (r *Receiver) pass(pid int, d datagram, pass func(Message)) {
	if !r.strays.close(d.fds) {
		r.Control(refuseDescriptors)
	}
	if d.pid == pid || d.pid == unknownSender {
		pass(Message{Fields: Fields(d.text)})
		return
	}
	if !r.warned && (d.uid == os.Geteuid() || d.uid == 0) && Fields(d.text)["READY"] == "1" {
		r.warned = true
		pass(Message{ForeignReady: d.pid})
	}
}
