package reuseport

import (
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// joinGroup opens a socket at the group's address, as another process of this user does.
func joinGroup(t *testing.T, g *Group) int {
	t.Helper()
	fd, err := openTCP(g.bound, true)
	require.NoError(t, err)
	require.NoError(t, unix.Listen(fd, backlog))
	return fd
}

// reaches requires that a connection is queued at the slot that alone is steered to.
func reaches(t *testing.T, g *Group, slot int) {
	t.Helper()
	require.NoError(t, g.Steer(func(s int) bool { return s == slot }))
	_, port, err := net.SplitHostPort(g.text)
	require.NoError(t, err)
	host := "127.0.0.1"
	if g.Addr == "[::1]:0" {
		host = "::1"
	}
	c, err := net.Dial("tcp", net.JoinHostPort(host, port))
	require.NoError(t, err)
	defer c.Close()
	require.Eventually(t, func() bool { return queueLength(g.FD(slot)) > 0 }, patience, time.Millisecond, "%+v", g.sockets)
	accept(t, g.FD(slot))
	require.Zero(t, queueLength(g.FD(slot)), "no probe gets into a queue")
}

// Whatever other processes do between two looks, the table is the kernel's after the next one: they join the group, leave
// it, and hold sockets that are closed here.
func TestTableWithStrangers(t *testing.T) {
	long(t)
	for name, addr := range map[string]string{"IPv4": "127.0.0.1:0", "IPv6": "[::1]:0", "dual stack": ":0"} {
		t.Run(name, func(t *testing.T) {
			g, err := Open(OS{}, Address{Network: "tcp", Addr: addr})
			require.NoError(t, err)
			defer g.Close()
			var foreign []int
			defer func() {
				for _, fd := range foreign {
					unix.Close(fd)
				}
			}()
			random := rand.New(rand.NewPCG(3, 4))
			next, strangers := 1, 0
			for range 60 {
				for range 1 + random.IntN(3) {
					own := ownSlots(g)
					switch n := len(own); {
					case n < 2 || n < 6 && random.IntN(3) == 0:
						require.NoError(t, g.Add(next))
						next++
					case random.IntN(3) == 0:
						g.Remove(own[random.IntN(n)])
					case random.IntN(2) == 0: // a ghost: what is closed here stays open there
						slot := own[random.IntN(n)]
						fd, err := unix.Dup(g.FD(slot))
						require.NoError(t, err)
						foreign = append(foreign, fd)
						g.Remove(slot)
					case len(foreign) > 0 && random.IntN(2) == 0:
						i := random.IntN(len(foreign))
						unix.Close(foreign[i])
						foreign = withoutIndex(foreign, i)
					case len(foreign) < 6:
						foreign = append(foreign, joinGroup(t, g))
					}
				}
				own := ownSlots(g)
				reaches(t, g, own[random.IntN(len(own))])
				assert.Len(t, g.sockets, len(ownSlots(g))+len(foreign))
				strangers = max(strangers, len(foreign))
			}
			assert.Greater(t, strangers, 2)
		})
	}
}

func ownSlots(g *Group) (slots []int) {
	for _, so := range g.sockets {
		if so.slot >= 0 {
			slots = append(slots, so.slot)
		}
	}
	return slots
}

// A socket that a worker has shut down leaves the kernel's group, and the table.
func TestTableAfterAShutdown(t *testing.T) {
	g, err := Open(OS{}, Address{Network: "tcp", Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	defer g.Close()
	for slot := 1; slot < 5; slot++ {
		require.NoError(t, g.Add(slot))
	}
	reaches(t, g, 4)
	require.NoError(t, unix.Shutdown(g.FD(1), unix.SHUT_RD))
	reaches(t, g, 4)
	assert.Equal(t, -1, g.FD(1))
	require.NoError(t, g.Add(1))
	reaches(t, g, 1)
}

// The order survives a handover, with the strangers in it; from a master that knew none it is learned.
func TestTableIsHandedOver(t *testing.T) {
	g, err := Open(OS{}, Address{Network: "tcp", Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	defer g.Close()
	a := joinGroup(t, g)
	defer unix.Close(a)
	require.NoError(t, g.Add(1))
	reaches(t, g, 1)
	for _, known := range []bool{true, false} {
		gs := State{Network: "tcp", Addr: g.Addr, Sockets: []socketState{{0, g.FD(0)}, {1, g.FD(1)}}}
		if known {
			gs.Strangers = map[int]uint64{1: g.sockets[1].inode}
		}
		adopted, err := Adopt(OS{}, gs)
		require.NoError(t, err)
		assert.Equal(t, !known, adopted.unsure)
		reaches(t, adopted, 1)
		assert.Equal(t, []int{0, strangerSlot, 1}, []int{adopted.sockets[0].slot, adopted.sockets[1].slot, adopted.sockets[2].slot})
	}
}

// Both ways to learn the members name the same.
func TestMembersFromProc(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		g, err := Open(OS{}, Address{Network: "tcp", Addr: addr})
		require.NoError(t, err)
		defer g.Close()
		require.NoError(t, g.Add(1))
		want, err := g.kernel.Members(g.bound)
		require.NoError(t, err)
		assert.Len(t, want, 2)
		_, ip, _, _ := groupKey(g.bound)
		got, err := membersFromProc(ip, portOf(g.bound))
		require.NoError(t, err)
		assert.Equal(t, want, got, addr)
	}
}

// A probe finds the order of many sockets in a bounded time.
func TestProbeOfManySockets(t *testing.T) {
	long(t)
	g, err := Open(OS{}, Address{Network: "tcp", Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	defer g.Close()
	for slot := 1; slot < 200; slot++ {
		require.NoError(t, g.Add(slot))
	}
	want := append([]slotSocket(nil), g.sockets...)
	for _, n := range []int{0, 10, 200} {
		rand.Shuffle(n, func(i, j int) { g.sockets[i], g.sockets[j] = g.sockets[j], g.sockets[i] })
		g.unsure = true
		began := time.Now()
		_, err = g.Compare()
		require.NoError(t, err)
		t.Logf("%d of 200 at another place: %v", n, time.Since(began))
		assert.Equal(t, want, g.sockets)
	}
}
