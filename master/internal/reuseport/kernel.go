package reuseport

import (
	"os"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/master/internal/proc"
)

// Kernel is what a Group asks of the operating system, so that a simulated one can take the place of the real one in a test.
// Descriptors are the kernel's numbers.
type Kernel interface {
	// Now returns the time, by which a probe gives up.
	Now() time.Time
	// Sleep waits between two looks at a probe.
	Sleep(d time.Duration)
	// Open returns a bound socket that does not listen yet. With reusePort it may join others of this user that have it; without,
	// the address must be free.
	Open(at unix.Sockaddr, reusePort bool) (fd int, err error)
	// Listen has a socket listen, and makes it blocking if that is wanted.
	Listen(fd int, blocking bool) error
	// Close closes a descriptor. A socket leaves its group when nobody has it any more.
	Close(fd int)
	// CloseOnExec has an adopted descriptor close at the next exec.
	CloseOnExec(fd int)
	// Inode returns what names a socket in all processes; 0: unknown.
	Inode(fd int) uint64
	// Bound returns the address of a socket, with the port that the system chose for port 0.
	Bound(fd int) (at unix.Sockaddr, text string, err error)
	// Listens reports whether a socket is a listening one.
	Listens(fd int) bool

	// Attach replaces the program that chooses a socket of fd's group for a new connection.
	Attach(fd int, program []bpf.Instruction) error
	// Members returns the sockets of the group at an address, without their order.
	Members(at unix.Sockaddr) (proc.Inodes, error)
	// Queued returns how many connections wait in a socket's accept queue.
	Queued(fd int) int
	// HalfOpen returns the handshakes that are under way at the port of an address.
	HalfOpen(at unix.Sockaddr) []Handshake

	// Refuse has a socket drop packets with a lower time to live, and count them; 0 ends that.
	Refuse(fd, ttl int, v6 bool) error
	// Drops returns how many packets a socket has dropped.
	Drops(fd int) (uint32, error)
	// Probe begins a connection whose packets have the time to live probeTTL.
	Probe(target unix.Sockaddr, v6 bool) (fd int, err error)
	// Taken reports whether a listening socket has taken the connection of a probe.
	Taken(fd int) bool
	// Reset ends a probe.
	Reset(fd int)
}

// OS is the Kernel of this machine.
type OS struct{}

// Now implements Kernel.
func (OS) Now() time.Time { return time.Now() }

// Sleep implements Kernel.
func (OS) Sleep(d time.Duration) { time.Sleep(d) }

// Open implements Kernel.
func (OS) Open(at unix.Sockaddr, reusePort bool) (int, error) { return openTCP(at, reusePort) }

// Listen implements Kernel. This is the one moment at which a socket can be made blocking: later a worker may rely on what it is.
func (OS) Listen(fd int, blocking bool) error {
	if err := unix.Listen(fd, backlog); err != nil || !blocking {
		return os.NewSyscallError("listen", err)
	}
	return os.NewSyscallError("fcntl", unix.SetNonblock(fd, false))
}

// Close implements Kernel.
func (OS) Close(fd int) { unix.Close(fd) }

// CloseOnExec implements Kernel.
func (OS) CloseOnExec(fd int) { unix.CloseOnExec(fd) }

// Inode implements Kernel.
func (OS) Inode(fd int) uint64 {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Ino
}

// Bound implements Kernel.
func (OS) Bound(fd int) (unix.Sockaddr, string, error) { return boundTo(fd) }

// Listens implements Kernel.
func (OS) Listens(fd int) bool { return stillListens(fd) }

// Attach implements Kernel.
func (OS) Attach(fd int, program []bpf.Instruction) error { return attach(fd, program) }

// Queued implements Kernel.
func (OS) Queued(fd int) int { return queueLength(fd) }

// HalfOpen implements Kernel.
func (OS) HalfOpen(at unix.Sockaddr) []Handshake { return halfOpen(portOf(at)) }
