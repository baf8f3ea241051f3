package reuseport

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/master/internal/reuseport/cbpf"
)

func TestSteeringProgram(t *testing.T) {
	assert.Nil(t, steeringProgram(nil))
	assert.Nil(t, steeringProgram(make([]int, maxTargets+1)))
	for _, indexes := range [][]int{{0}, {3}, {0, 1, 2}, {1, 4, 7, 9}, rand.Perm(maxTargets)} {
		prog := steeringProgram(indexes)
		assert.LessOrEqual(t, len(prog), 4096)
		for i := range len(indexes) {
			index, ok := cbpf.Run(prog, uint32(i+7*len(indexes)), 64)
			assert.True(t, ok)
			assert.Equal(t, indexes[i], index)
		}
	}
}

// The table of indexes is the kernel's: whatever was opened and closed, a program that names an index sends
// connections to the socket that the table has there.
func TestTableIsTheKernels(t *testing.T) {
	g, err := Open(OS{}, Address{Network: "tcp", Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	defer g.Close()
	require.False(t, g.shared, g.why)
	next := 1
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		if n := len(g.sockets); n < 2 || n < 8 && random.IntN(2) == 0 {
			require.NoError(t, g.Add(next))
			next++
		} else {
			g.Remove(g.sockets[random.IntN(n)].slot)
		}
		want := g.sockets[random.IntN(len(g.sockets))].slot
		require.NoError(t, g.Steer(func(slot int) bool { return slot == want }))
		c, err := net.Dial("tcp", g.text)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return queueLength(g.FD(want)) == 1 }, patience, time.Millisecond)
		accept(t, g.FD(want))
		c.Close()
	}
}

func accept(t *testing.T, fd int) {
	t.Helper()
	c, _, err := unix.Accept(fd)
	require.NoError(t, err)
	unix.Close(c)
}

// New connections are spread evenly over the slots that accept, and none goes to another.
func TestSteeringIsEvenAndExact(t *testing.T) {
	long(t)
	for name, addr := range map[string]string{"IPv4": "127.0.0.1:0", "IPv6": "[::1]:0", "dual stack": ":0"} {
		t.Run(name, func(t *testing.T) {
			g, err := Open(OS{}, Address{Network: "tcp", Addr: addr})
			if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT) {
				t.Skip("no IPv6 here")
			}
			require.NoError(t, err)
			defer g.Close()
			for slot := 1; slot < 5; slot++ {
				require.NoError(t, g.Add(slot))
			}
			accepts := []int{0, 2, 4}
			require.NoError(t, g.Steer(func(slot int) bool { return slices.Contains(accepts, slot) }))
			const connections = 3000
			_, port, err := net.SplitHostPort(g.text)
			require.NoError(t, err)
			host := map[string]string{"IPv4": "127.0.0.1", "IPv6": "::1", "dual stack": "127.0.0.1"}[name]
			got := make(map[int]int)
			for range connections {
				c, err := net.Dial("tcp", net.JoinHostPort(host, port))
				require.NoError(t, err)
				for slot := range 5 {
					if fd, _, err := unix.Accept(g.FD(slot)); err == nil {
						got[slot]++
						unix.Close(fd)
					}
				}
				c.Close()
			}
			chi := 0.0
			n := 0
			for _, slot := range accepts {
				d := float64(got[slot]) - connections/3
				chi += d * d / (connections / 3)
				n += got[slot]
			}
			assert.Equal(t, connections, n, "%v", got)
			assert.Less(t, chi, 30.0, "%v", got) // p < 1e-6 with two degrees of freedom
		})
	}
}

// A listening socket's accept queue can be read, and half-open handshakes are seen.
func TestQueues(t *testing.T) {
	g, err := Open(OS{}, Address{Network: "tcp", Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	defer g.Close()
	assert.False(t, g.Queued(0))
	for i := range 3 {
		c, err := net.Dial("tcp", g.text)
		require.NoError(t, err)
		defer c.Close()
		require.Eventually(t, func() bool { return queueLength(g.FD(0)) == i+1 }, patience, time.Millisecond)
	}
	assert.True(t, g.Queued(0))
	assert.Empty(t, g.Handshakes())
	found, err := diagnose(unix.AF_INET, tcpSynRecv, portOf(g.bound))
	assert.NoError(t, err)
	assert.Empty(t, found)
	assert.Empty(t, halfOpenFromProc(portOf(g.bound)))
}

// With TCP_DEFER_ACCEPT a handshake stays in SYN_RECV until data comes: a half-open one to look at.
func TestHandshakesUnderWay(t *testing.T) {
	g, err := Open(OS{}, Address{Network: "tcp", Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	defer g.Close()
	require.NoError(t, unix.SetsockoptInt(g.FD(0), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 30))
	c, err := net.Dial("tcp", g.text)
	require.NoError(t, err)
	defer c.Close()
	var found []Handshake
	require.Eventually(t, func() bool {
		found = g.Handshakes()
		return len(found) == 1
	}, patience, time.Millisecond)
	local := c.LocalAddr().(*net.TCPAddr)
	assert.Equal(t, uint16(local.Port), found[0].From)
	assert.Equal(t, local.IP.To4(), net.IP(found[0].Remote[:4]))
	proc := halfOpenFromProc(portOf(g.bound))
	require.Len(t, proc, 1)
	assert.Equal(t, uint16(local.Port), proc[0].From)
	_, err = c.Write([]byte("x"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(g.Handshakes()) == 0 && g.Queued(0) }, patience, time.Millisecond)
}

func TestParseDiagnosis(t *testing.T) {
	message := func(kind uint16, body []byte) []byte {
		b := make([]byte, 16, 16+len(body))
		binary.NativeEndian.PutUint32(b, uint32(16+len(body)))
		binary.NativeEndian.PutUint16(b[4:], kind)
		return append(b, body...)
	}
	body := make([]byte, 72)
	body[1] = tcpSynRecv
	binary.BigEndian.PutUint16(body[4:], 80)
	binary.BigEndian.PutUint16(body[6:], 40000)
	other := slices.Clone(body)
	binary.BigEndian.PutUint16(other[4:], 81)
	listening := slices.Clone(body)
	listening[1] = tcpListen
	b := slices.Concat(message(unix.SOCK_DIAG_BY_FAMILY, body), message(unix.SOCK_DIAG_BY_FAMILY, other),
		message(unix.SOCK_DIAG_BY_FAMILY, listening))
	found, over, err := parseDiagnosis(b, tcpSynRecv, 80)
	assert.NoError(t, err)
	assert.False(t, over)
	require.Len(t, found, 1)
	assert.Equal(t, uint16(40000), found[0].remotePort())
	_, over, err = parseDiagnosis(message(unix.NLMSG_DONE, make([]byte, 4)), tcpSynRecv, 80)
	assert.NoError(t, err)
	assert.True(t, over)
	for name, broken := range map[string][]byte{
		"refused": message(unix.NLMSG_ERROR, make([]byte, 20)),
		"short":   message(unix.SOCK_DIAG_BY_FAMILY, make([]byte, 8)),
		"cut off": message(unix.SOCK_DIAG_BY_FAMILY, body)[:40],
	} {
		_, _, err := parseDiagnosis(broken, tcpSynRecv, 80)
		assert.Error(t, err, name)
	}
}

// A foreign process that shuts the socket down, which ends it for everybody.
func TestShutDownSocketIsSeen(t *testing.T) {
	g, err := Open(OS{}, Address{Network: "tcp", Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	defer g.Close()
	assert.True(t, stillListens(g.FD(0)))
	require.NoError(t, unix.Shutdown(g.FD(0), unix.SHUT_RD))
	assert.False(t, stillListens(g.FD(0)))
}

func TestSocketsAreAsTheyMustBe(t *testing.T) {
	g, err := Open(OS{}, Address{Network: "tcp", Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	defer g.Close()
	fd := g.FD(0)
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	require.NoError(t, err)
	assert.NotZero(t, flags&unix.O_NONBLOCK)
	flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	require.NoError(t, err)
	assert.NotZero(t, flags&unix.FD_CLOEXEC)
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	require.NoError(t, err)
	assert.Equal(t, unix.IPPROTO_TCP, protocol, "MPTCP takes no program")
}

// refusing is a kernel that takes no program.
type refusing struct{ OS }

func (refusing) Attach(int, []bpf.Instruction) error { return unix.EPERM }

// Where the kernel takes no program, an address has one socket for all workers, and the reason is known.
func TestKernelThatRefusesSteering(t *testing.T) {
	g, err := Open(refusing{}, Address{Network: "tcp", Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	defer g.Close()
	assert.True(t, g.shared)
	assert.Contains(t, g.why, "the kernel refuses the program: operation not permitted")
	require.NoError(t, g.Add(1))
	assert.Equal(t, g.FD(0), g.FD(1))
	assert.NoError(t, g.Steer(func(int) bool { return true }))
	c, err := net.Dial("tcp", g.text)
	require.NoError(t, err)
	defer c.Close()
	assert.False(t, g.Queued(0), "what waits is anybody's")
	_, err = Open(OS{}, Address{Network: "tcp", Addr: g.text})
	assert.True(t, InUse(err))
}
