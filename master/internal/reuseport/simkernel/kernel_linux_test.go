package simkernel_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/master/internal/reuseport/simkernel"
)

// machine is what a history is played on: the real kernel or the simulated one. Sockets have names, which are numbers.
type machine interface {
	kernel() reuseport.Kernel
	// hold has another process hold a socket; release ends that.
	hold(fd int) (held int)
	release(held int)
	shutdown(fd int)
	// dial connects and completes the handshake. It reports whether somebody listened.
	dial(port int) bool
	// accept takes what waits in a socket.
	accept(fd int)
}

// real is the kernel of this machine. Another holder is another descriptor.
type real struct {
	reuseport.OS
	t *testing.T
}

func (r real) kernel() reuseport.Kernel { return r.OS }

func (r real) hold(fd int) int {
	held, err := unix.Dup(fd)
	require.NoError(r.t, err)
	return held
}

func (r real) release(held int) { unix.Close(held) }

func (r real) shutdown(fd int) {
	if err := unix.Shutdown(fd, unix.SHUT_RD); !errors.Is(err, unix.ENOTCONN) { // it was shut down before
		require.NoError(r.t, err)
	}
}

func (r real) dial(port int) bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(r.t, err)
	at := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}
	err = unix.Connect(fd, at)
	if errors.Is(err, unix.ECONNREFUSED) {
		unix.Close(fd)
		return false
	}
	require.NoError(r.t, err)
	r.t.Cleanup(func() { unix.Close(fd) })
	// The last packet of the handshake may be handled a little after connect has returned.
	for tries := 0; len(r.HalfOpen(at)) > 0; tries++ {
		require.Less(r.t, tries, 10_000)
		time.Sleep(time.Millisecond)
	}
	return true
}

func (r real) accept(fd int) {
	for {
		c, _, err := unix.Accept(fd)
		if err != nil {
			return
		}
		unix.Close(c)
	}
}

// simulated is the kernel in memory.
type simulated struct {
	*simkernel.Kernel
	random  *rand.Rand
	holders map[int]*simkernel.Socket
	next    int
}

func (s *simulated) kernel() reuseport.Kernel { return s.Kernel }

func (s *simulated) hold(fd int) int {
	so := s.Socket(fd)
	so.Hold()
	s.next++
	s.holders[s.next] = so
	return s.next
}

func (s *simulated) release(held int) { s.holders[held].Release() }
func (s *simulated) shutdown(fd int)  { s.Socket(fd).Shutdown() }

func (s *simulated) dial(port int) bool {
	h := s.Dial(port, s.random.Uint32())
	return h != nil && h.Complete()
}

func (s *simulated) accept(fd int) { s.Socket(fd).Queue = 0 }

// player plays a history on a machine, and says what it sees.
type player struct {
	t     *testing.T
	m     machine
	at    unix.Sockaddr
	port  int
	names map[uint64]int // by inode
	fds   map[int]int    // by name
	held  []heldSocket
	next  int
}

type heldSocket struct{ name, held int }

func play(t *testing.T, m machine, seed uint64) []string {
	t.Helper()
	p := &player{t: t, m: m, names: make(map[uint64]int), fds: make(map[int]int)}
	fd, err := m.kernel().Open(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}, true)
	require.NoError(t, err)
	p.at, _, err = m.kernel().Bound(fd)
	require.NoError(t, err)
	p.port = p.at.(*unix.SockaddrInet4).Port
	p.listen(fd)
	random := rand.New(rand.NewPCG(seed, 0))
	var said []string
	for range 40 {
		said = append(said, p.act(random)+": "+p.see())
	}
	for name := range p.fds {
		m.kernel().Close(p.fds[name])
	}
	for _, h := range p.held {
		m.release(h.held)
	}
	assert.False(t, m.dial(p.port), "nobody listens any more")
	return said
}

func (p *player) listen(fd int) {
	require.NoError(p.t, p.m.kernel().Listen(fd, false))
	p.names[p.m.kernel().Inode(fd)] = p.next
	p.fds[p.next] = fd
	p.next++
}

// own returns the names of the open sockets in their order.
func (p *player) own() (out []int) {
	for name := range p.fds {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// act does one thing by chance.
func (p *player) act(random *rand.Rand) string {
	own, k := p.own(), p.m.kernel()
	which := random.IntN(1 << 20)
	pick := -1
	if len(own) > 0 {
		pick = own[which%len(own)]
	}
	switch n := random.IntN(12); {
	case n < 3 || len(own) < 2:
		fd, err := k.Open(p.at, true)
		require.NoError(p.t, err)
		p.listen(fd)
		return fmt.Sprint("open ", p.next-1)
	case n < 5:
		k.Close(p.fds[pick])
		delete(p.fds, pick)
		return fmt.Sprint("close ", pick)
	case n < 6:
		p.held = append(p.held, heldSocket{pick, p.m.hold(p.fds[pick])})
		return fmt.Sprint("hold ", pick)
	case n < 7 && len(p.held) > 0:
		i := which % len(p.held)
		h := p.held[i]
		p.held = slices.Delete(p.held, i, i+1)
		p.m.release(h.held)
		return fmt.Sprint("let go ", h.name)
	case n < 8 && which%4 == 0:
		p.m.shutdown(p.fds[pick])
		return fmt.Sprint("shut down ", pick)
	case n < 9:
		p.m.accept(p.fds[pick])
		return fmt.Sprint("accept ", pick)
	case n < 10:
		fd, err := k.Open(p.at, false)
		if err == nil {
			k.Close(fd)
		}
		return fmt.Sprint("alone: ", errors.Is(err, unix.EADDRINUSE))
	}
	// A program that names one index: the connection shows which socket has it. An index that is too large is tried without a
	// connection, because then the kernel chooses.
	members, err := k.Members(p.at)
	require.NoError(p.t, err)
	if len(members) == 0 {
		return fmt.Sprint("nobody: ", p.m.dial(p.port))
	}
	index := which % len(members)
	if !p.attach(own, index) {
		return "no socket listens"
	}
	return fmt.Sprintf("dial index %d: %v", index, p.m.dial(p.port))
}

// attach attaches a program that names one index, by a socket that listens.
func (p *player) attach(own []int, index int) bool {
	for _, name := range own {
		if fd := p.fds[name]; p.m.kernel().Listens(fd) {
			require.NoError(p.t, p.m.kernel().Attach(fd, []bpf.Instruction{bpf.RetConstant{Val: uint32(index)}}))
			return true
		}
	}
	return false
}

// see says what there is: members, and of each open socket whether it listens and how many wait.
func (p *player) see() string {
	k := p.m.kernel()
	members, err := k.Members(p.at)
	require.NoError(p.t, err)
	var names []int
	for inode := range members {
		names = append(names, p.names[inode])
	}
	slices.Sort(names)
	text := []string{fmt.Sprint("members ", names)}
	for _, name := range p.own() {
		fd := p.fds[name]
		if k.Listens(fd) {
			text = append(text, fmt.Sprintf("%d has %d", name, k.Queued(fd)))
		} else {
			text = append(text, fmt.Sprintf("%d is shut down", name))
		}
	}
	return strings.Join(text, ", ")
}

// The same histories on the simulated kernel and on the real one show the same: which sockets are in the group, in which order, where a
// connection goes, what a close, a holder and a shutdown do.
func TestSameAsTheKernel(t *testing.T) {
	inNetwork(t)
	histories := uint64(60)
	if testing.Short() {
		histories = 10
	}
	for seed := range histories {
		sim := &simulated{Kernel: simkernel.New(), random: rand.New(rand.NewPCG(seed, 1)), holders: make(map[int]*simkernel.Socket)}
		want := play(t, real{t: t}, seed)
		require.Equal(t, want, play(t, sim, seed), "seed %d", seed)
		require.Zero(t, sim.Descriptors())
	}
}

// A probe of the real group's order is answered by both kernels alike.
func TestProbesAsTheKernelDoes(t *testing.T) {
	inNetwork(t)
	sim := &simulated{Kernel: simkernel.New(), random: rand.New(rand.NewPCG(1, 1)), holders: make(map[int]*simkernel.Socket)}
	for name, m := range map[string]machine{"real": real{t: t}, "simulated": sim} {
		k := m.kernel()
		g, err := reuseport.Open(k, reuseport.Address{Network: "tcp", Addr: "127.0.0.1:0"})
		require.NoError(t, err, name)
		for slot := 1; slot < 4; slot++ {
			require.NoError(t, g.Add(slot))
		}
		at, _, err := k.Bound(g.FD(0))
		require.NoError(t, err)
		foreign, err := k.Open(at, true)
		require.NoError(t, err)
		require.NoError(t, k.Listen(foreign, false))
		m.hold(g.FD(1)) // keeps its place
		g.Remove(1)
		g.Remove(0)
		require.NoError(t, g.Add(4))
		changed, err := g.Compare() // several changes at once: only probes can tell the order
		require.NoError(t, err, name)
		assert.True(t, changed, name)
		assert.Len(t, g.Strangers(), 2, name)
		for _, slot := range []int{2, 3, 4} {
			require.NoError(t, g.Steer(func(s int) bool { return s == slot }))
			require.True(t, m.dial(at.(*unix.SockaddrInet4).Port))
			assert.True(t, g.Queued(slot), "%s: slot %d", name, slot)
			m.accept(g.FD(slot))
		}
		g.Close()
	}
}

// inNetwork has the test run in a network of its own, if it may; else on the machine's loopback interface.
func inNetwork(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // for good: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Logf("no network of its own: %v", err)
		return
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	require.NoError(t, err)
	ifr.SetUint16(unix.IFF_UP)
	require.NoError(t, unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr))
}
