package simkernel

import (
	"slices"

	"golang.org/x/net/bpf"

	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/master/internal/reuseport/cbpf"
)

// Socket is a TCP socket. It exists while a process has it.
type Socket struct {
	Inode uint64
	Port  int
	Queue int // connections that wait to be accepted

	kernel    *Kernel
	holders   int // descriptors in all processes
	listens   bool
	reusePort bool
	half      map[reuseport.Handshake]bool
	refuses   int // packets with a lower time to live
	drops     uint32
}

// Hold has one more process have the socket.
func (so *Socket) Hold() { so.holders++ }

// Release has one process less have the socket, which ends with the last one.
func (so *Socket) Release() {
	so.holders--
	if so.holders == 0 {
		so.end()
	}
}

// Shutdown is shutdown(2): the socket leaves its group for everybody.
func (so *Socket) Shutdown() { so.end() }

// Listens reports whether the socket takes new connections.
func (so *Socket) Listens() bool { return so.listens }

// Index returns the number of the socket in its group; -1 when it is in none.
func (so *Socket) Index() int { return slices.Index(so.kernel.group(so.Port).members, so) }

// end takes the socket out of its group: the last member takes its index. What waits in it is reset.
func (so *Socket) end() {
	if !so.listens {
		return
	}
	g := so.kernel.group(so.Port)
	i, last := so.Index(), len(g.members)-1
	g.members[i] = g.members[last]
	g.members = g.members[:last]
	so.listens = false
	if last == 0 {
		delete(so.kernel.groups, so.Port)
	}
	if lost := so.Queue + len(so.half); lost > 0 {
		so.Queue, so.half = 0, make(map[reuseport.Handshake]bool)
		so.kernel.Lost(so, lost)
	}
}

// Handshake is a connection of which the SYN was answered. The socket is chosen at the SYN.
type Handshake struct {
	Socket *Socket
	key    reuseport.Handshake
}

// Dial begins a connection to a port, with the random number that the kernel takes for the choice. nil: nobody listens.
func (k *Kernel) Dial(port int, random uint32) *Handshake {
	so := k.choose(port, random, 64)
	if so == nil {
		return nil
	}
	k.lastFrom++
	h := &Handshake{so, reuseport.Handshake{Port: uint16(port), From: k.lastFrom}}
	so.half[h.key] = true
	return h
}

// Complete ends the handshake: the connection waits in the socket's queue. It reports whether the socket still listens.
func (h *Handshake) Complete() bool {
	if !h.Socket.half[h.key] {
		return false
	}
	delete(h.Socket.half, h.key)
	h.Socket.Queue++
	return true
}

// Targets returns the sockets that new connections to a port go to, for every random number.
func (k *Kernel) Targets(port int) (out []*Socket) {
	g := k.group(port)
	seen := make(map[*Socket]bool)
	for random := range uint32(max(1, choices(g.program, len(g.members)))) {
		if so := k.choose(port, random, 64); so != nil && !seen[so] {
			seen[so] = true
			out = append(out, so)
		}
	}
	return out
}

// choices returns how many random numbers there are to be tried until they repeat.
func choices(program []bpf.Instruction, members int) int {
	n := 1
	for _, in := range program {
		if op, ok := in.(bpf.ALUOpConstant); ok {
			n = int(op.Val)
		}
	}
	return n * max(1, members)
}

// choose returns the socket for a new connection, as the kernel does: the one that the program names, or, where it names none, one by
// a hash, for which the random number stands.
func (k *Kernel) choose(port int, random uint32, ttl uint8) *Socket {
	g := k.group(port)
	if len(g.members) == 0 {
		return nil
	}
	if g.program != nil {
		i, ok := cbpf.Run(g.program, random, ttl)
		if !ok {
			panic("simkernel: a program that is no steering program")
		}
		if i < len(g.members) {
			return g.members[i]
		}
	}
	return g.members[random%uint32(len(g.members))]
}
