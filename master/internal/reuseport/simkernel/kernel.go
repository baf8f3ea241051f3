// Package simkernel is the kernel's side of listening sockets in memory: groups of SO_REUSEPORT with their order and their program,
// accept queues, handshakes, and sockets that live as long as anybody has them. Tests run a master against it. All addresses are
// TCP ports; nothing is safe for concurrent use.
package simkernel

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/reuseport"
)

// Kernel has the sockets of all processes. It implements reuseport.Kernel for one of them, whose descriptors it numbers.
type Kernel struct {
	// Clock tells the time.
	Clock func() time.Time
	// Pass has time pass.
	Pass func(d time.Duration)
	// Fail returns the error of a call by its name, or nil.
	Fail func(call string) error
	// Lost is called when connections end because their socket does: those of its queue, and its handshakes.
	Lost func(so *Socket, connections int)

	// Shared is called when the process closes a socket that others still have.
	Shared func(so *Socket)

	descriptors map[int]*descriptor
	groups      map[int]*group // by port
	probes      map[int]bool   // by descriptor: whether a socket took it
	lastFD      int
	lastInode   uint64
	lastPort    int
	lastFrom    uint16
}

type descriptor struct {
	socket *Socket
	stays  bool // over an exec
}

// group is what the kernel knows of a port.
type group struct {
	members []*Socket // in the order of their indexes
	program []bpf.Instruction
}

// FirstFD is the lowest descriptor: no descriptor of the test's own process is as high.
const FirstFD = 1 << 20

// New returns a kernel without sockets.
func New() *Kernel {
	return &Kernel{Clock: time.Now, Pass: time.Sleep, Fail: func(string) error { return nil }, Lost: func(*Socket, int) {}, Shared: func(*Socket) {},
		descriptors: make(map[int]*descriptor), groups: make(map[int]*group), probes: make(map[int]bool), lastFD: FirstFD - 1,
		lastInode: 5000, lastPort: 40000}
}

// Descriptors returns how many descriptors the process has.
func (k *Kernel) Descriptors() int { return len(k.descriptors) }

// Socket returns the socket of a descriptor; nil when there is none.
func (k *Kernel) Socket(fd int) *Socket {
	if d := k.descriptors[fd]; d != nil {
		return d.socket
	}
	return nil
}

// Exec closes the descriptors that do not stay open over an exec.
func (k *Kernel) Exec() {
	for _, fd := range slices.Sorted(maps.Keys(k.descriptors)) {
		if !k.descriptors[fd].stays {
			k.Close(fd)
		}
	}
}

// MembersAt returns the sockets that listen at a port, in the order of their indexes.
func (k *Kernel) MembersAt(port int) []*Socket { return k.group(port).members }

// Join has another process listen at a port. It holds the socket.
func (k *Kernel) Join(port int) *Socket {
	so := k.open(port)
	so.reusePort = true
	so.holders = 1
	k.listen(so)
	return so
}

func (k *Kernel) group(port int) *group {
	g := k.groups[port]
	if g == nil {
		g = &group{}
		k.groups[port] = g
	}
	return g
}

func (k *Kernel) open(port int) *Socket {
	k.lastInode++
	return &Socket{Inode: k.lastInode, Port: port, kernel: k, half: make(map[reuseport.Handshake]bool)}
}

func (k *Kernel) listen(so *Socket) {
	g := k.group(so.Port)
	so.listens = true
	g.members = append(g.members, so)
}

// What follows implements reuseport.Kernel.

// Now implements reuseport.Kernel.
func (k *Kernel) Now() time.Time { return k.Clock() }

// Sleep implements reuseport.Kernel.
func (k *Kernel) Sleep(d time.Duration) { k.Pass(d) }

// Open implements reuseport.Kernel.
func (k *Kernel) Open(at unix.Sockaddr, reusePort bool) (int, error) {
	if err := k.Fail("open"); err != nil {
		return -1, err
	}
	port, err := portOf(at)
	if err != nil {
		return -1, err
	}
	if port == 0 {
		k.lastPort++
		port = k.lastPort
	}
	for _, so := range k.group(port).members {
		if !reusePort || !so.reusePort {
			return -1, os.NewSyscallError("bind", unix.EADDRINUSE)
		}
	}
	so := k.open(port)
	so.reusePort, so.holders = reusePort, 1
	k.lastFD++
	k.descriptors[k.lastFD] = &descriptor{socket: so}
	return k.lastFD, nil
}

func portOf(at unix.Sockaddr) (int, error) {
	switch at := at.(type) {
	case *unix.SockaddrInet4:
		return at.Port, nil
	case *unix.SockaddrInet6:
		return at.Port, nil
	}
	return 0, fmt.Errorf("simkernel: no address of TCP: %v", at)
}

// Listen implements reuseport.Kernel.
func (k *Kernel) Listen(fd int, _ bool) error {
	so := k.Socket(fd)
	if so == nil {
		return unix.EBADF
	}
	k.listen(so)
	return nil
}

// Close implements reuseport.Kernel.
func (k *Kernel) Close(fd int) {
	if d := k.descriptors[fd]; d != nil {
		delete(k.descriptors, fd)
		if d.socket.holders > 1 {
			k.Shared(d.socket)
		}
		d.socket.Release()
	}
	delete(k.probes, fd)
}

// CloseOnExec implements reuseport.Kernel.
func (k *Kernel) CloseOnExec(fd int) { k.Stay(fd, false) }

// Stay has a descriptor stay open over an exec, or not. It reports whether there is one.
func (k *Kernel) Stay(fd int, stays bool) bool {
	d := k.descriptors[fd]
	if d != nil {
		d.stays = stays
	}
	return d != nil
}

// Inode implements reuseport.Kernel.
func (k *Kernel) Inode(fd int) uint64 {
	if so := k.Socket(fd); so != nil {
		return so.Inode
	}
	return 0
}

// Bound implements reuseport.Kernel.
func (k *Kernel) Bound(fd int) (unix.Sockaddr, string, error) {
	so := k.Socket(fd)
	if so == nil {
		return nil, "", unix.EBADF
	}
	return &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: so.Port}, fmt.Sprintf("127.0.0.1:%d", so.Port), nil
}

// Listens implements reuseport.Kernel.
func (k *Kernel) Listens(fd int) bool {
	so := k.Socket(fd)
	return so == nil || so.listens
}

// Attach implements reuseport.Kernel.
func (k *Kernel) Attach(fd int, program []bpf.Instruction) error {
	so := k.Socket(fd)
	if so == nil || len(program) == 0 {
		return syscall.EINVAL
	}
	// A kernel that refuses the first program has no steering; this one has.
	if k.group(so.Port).program != nil {
		if err := k.Fail("attach"); err != nil {
			return err
		}
	}
	if so.listens {
		k.group(so.Port).program = program
	}
	return nil
}

// Members implements reuseport.Kernel.
func (k *Kernel) Members(at unix.Sockaddr) (proc.Inodes, error) {
	if err := k.Fail("members"); err != nil {
		return nil, err
	}
	port, err := portOf(at)
	if err != nil {
		return nil, err
	}
	out := make(proc.Inodes)
	for _, so := range k.group(port).members {
		out[so.Inode] = true
	}
	return out, nil
}

// Queued implements reuseport.Kernel.
func (k *Kernel) Queued(fd int) int {
	if so := k.Socket(fd); so != nil {
		return so.Queue
	}
	return 0
}

// HalfOpen implements reuseport.Kernel.
func (k *Kernel) HalfOpen(at unix.Sockaddr) (out []reuseport.Handshake) {
	port, err := portOf(at)
	if err != nil {
		return nil
	}
	for _, so := range k.group(port).members {
		for h := range so.half {
			out = append(out, h)
		}
	}
	return out
}

// Refuse implements reuseport.Kernel.
func (k *Kernel) Refuse(fd, ttl int, _ bool) error {
	so := k.Socket(fd)
	if so == nil {
		return unix.EBADF
	}
	so.refuses = ttl
	return nil
}

// Drops implements reuseport.Kernel.
func (k *Kernel) Drops(fd int) (uint32, error) {
	so := k.Socket(fd)
	if so == nil {
		return 0, unix.EBADF
	}
	return so.drops, nil
}

// probeTTL is the time to live of a probe.
const probeTTL = 1

// Probe implements reuseport.Kernel.
func (k *Kernel) Probe(target unix.Sockaddr, _ bool) (int, error) {
	if err := k.Fail("probe"); err != nil {
		return -1, err
	}
	port, err := portOf(target)
	if err != nil {
		return -1, err
	}
	k.lastFD++
	k.probes[k.lastFD] = false
	switch so := k.choose(port, 0, probeTTL); {
	case so == nil:
	case so.refuses > probeTTL:
		so.drops++
	default:
		k.probes[k.lastFD] = true
	}
	return k.lastFD, nil
}

// Taken implements reuseport.Kernel.
func (k *Kernel) Taken(fd int) bool { return k.probes[fd] }

// Reset implements reuseport.Kernel.
func (k *Kernel) Reset(fd int) { delete(k.probes, fd) }
