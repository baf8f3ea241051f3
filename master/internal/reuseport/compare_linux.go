package reuseport

import (
	"errors"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/master/internal/proc"
)

// Compare compares the table with the members of the kernel's group and brings it up to date; it reports whether the
// table has changed. The kernel tells the members, but not their order. One change since the last comparison leaves no
// doubt: a new member is the last, and the last one moves into the place of one that has left. More than one need a
// probe.
func (g *Group) Compare() (changed bool, err error) {
	if g.shared {
		return false, nil
	}
	members, err := g.kernel.Members(g.bound)
	if err != nil {
		return false, err
	}
	gone, came := g.differences(members)
	changes := len(gone) + len(came)
	doubt := g.unsure || changes > 0 && g.changed+changes > 1 || len(gone) == 1 && g.ambiguous(gone[0])
	for _, i := range slices.Backward(gone) {
		g.drop(i)
	}
	for _, inode := range came {
		g.sockets = append(g.sockets, strangerSocket(inode))
	}
	g.changed, g.unsure = 0, doubt
	if !doubt || g.kernel.Now().Before(g.probeAt) {
		return changes > 0, nil
	}
	if err := g.probe(); err != nil {
		g.probeAt = g.kernel.Now().Add(probeRetry)
		return true, err
	}
	g.unsure = false
	return true, nil
}

// probeRetry is when a probe that failed is tried again.
const probeRetry = 30 * time.Second

// differences returns the indexes of the table's entries that are no members any more, and the members that are not in
// the table. A socket of this process that still listens is a member, whatever the kernel's list says: a list that comes
// in parts can miss one while others change.
func (g *Group) differences(members proc.Inodes) (gone []int, came []uint64) {
	known := make(proc.Inodes, len(g.sockets))
	for i, so := range g.sockets {
		known[so.inode] = true
		if so.fd >= 0 && !members[so.inode] && g.kernel.Listens(so.fd) {
			members[so.inode] = true
		}
		if !members[so.inode] {
			gone = append(gone, i)
		}
	}
	for inode := range members {
		if !known[inode] {
			came = append(came, inode)
		}
	}
	slices.Sort(came)
	return gone, came
}

// ambiguous reports whether it is unknown which place the entry had: a probe cannot tell one stranger from another.
func (g *Group) ambiguous(i int) bool {
	n := 0
	for _, so := range g.sockets {
		if so.fd < 0 {
			n++
		}
	}
	return g.sockets[i].fd < 0 && n > 1
}

// drop removes the entry of a socket that has left the group: a stranger's that was closed, or one of ours that a worker
// has shut down.
func (g *Group) drop(i int) {
	if fd := g.sockets[i].fd; fd >= 0 {
		g.kernel.Close(fd)
	}
	g.sockets = withoutIndex(g.sockets, i)
}

// groupKey returns what the sockets of one group have in common beside the port.
func groupKey(sa unix.Sockaddr) (family uint8, ip net.IP, device uint32, v6only bool) {
	switch sa := sa.(type) {
	case *unix.SockaddrInet6:
		return unix.AF_INET6, sa.Addr[:], sa.ZoneId, sa.Addr != [16]byte{}
	case *unix.SockaddrInet4:
		return unix.AF_INET, sa.Addr[:], 0, false
	}
	return 0, nil, 0, false
}

// membersFromProc reads the same, but for the device, from /proc/net where sock_diag is refused.
func membersFromProc(ip net.IP, port uint16) (proc.Inodes, error) {
	out := make(proc.Inodes)
	for _, s := range proc.TCPSockets() {
		if s.Listens() && s.LocalPort == port && len(s.Local) == len(ip) && s.Local.Equal(ip) {
			out[s.Inode] = true
		}
	}
	if len(out) == 0 {
		return nil, errors.New("neither sock_diag nor /proc/net tells the listening sockets")
	}
	return out, nil
}
