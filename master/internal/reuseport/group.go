package reuseport

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Group is an address and its sockets. On Linux a TCP address has one socket for each slot, all in one SO_REUSEPORT group
// of the kernel; elsewhere, for unix sockets, for those of systemd and where the kernel refuses the steering program, one
// socket is shared by all slots.
//
// The kernel numbers the sockets of its group in the order in which they began to listen. When one is closed, the last one
// takes its number. The field sockets is that table, and sockets are opened and closed only by methods of group. Other
// processes of this user can join and leave the group, and a socket that is closed here keeps its place while another
// process holds it. compare brings the table up to date.
type Group struct {
	Address
	kernel  Kernel
	Since   int           // which upgrade opened it; workers that were started before do not have it
	bound   unix.Sockaddr // nil for inherited ones
	text    string        // where it really is: port 0 replaced
	shared  bool
	why     string       // why it is shared
	sockets []slotSocket // by the kernel's index; the shared one alone

	changed  int       // sockets opened and closed here since the table was last compared with the kernel's group
	unsure   bool      // a probe must learn the order of the table
	probeAt  time.Time // of the next probe, after one that failed
	attached []int     // the indexes that the attached program chooses from
}

// slotSocket is one entry of the table. A stranger's has no descriptor: it is there so that the other indexes are
// right, and is never chosen.
type slotSocket struct {
	slot  int
	fd    int
	inode uint64
}

// What is there in place of a slot's number.
const (
	sharedSlot   = -1
	strangerSlot = -2
)

// Open takes possession of an address. EADDRINUSE means that another process listens there: the error wraps it.
func Open(k Kernel, a Address) (*Group, error) {
	g := &Group{Address: a, kernel: k}
	if a.Network == "unix" {
		fd, err := openUnix(a)
		if err == nil {
			err = g.share(fd, "unix sockets are shared by all workers")
		}
		return g, err
	}
	sa, err := resolve(a.Addr)
	if err != nil {
		return nil, err
	}
	// Without SO_REUSEPORT, so that a foreign group on the address shows; kept only if the socket is shared.
	fd, err := k.Open(sa, false)
	if err != nil {
		return nil, err
	}
	if g.bound, g.text, err = k.Bound(fd); err != nil {
		k.Close(fd)
		return nil, err
	}
	if !Steerable {
		return g, g.share(fd, steeringMissing)
	}
	k.Close(fd)
	if err := g.Add(0); err != nil {
		return nil, err
	}
	if err := k.Attach(g.sockets[0].fd, steeringProgram([]int{0})); err != nil {
		why := fmt.Sprintf("the kernel refuses the program: %v", err)
		g.Remove(0)
		if fd, err = k.Open(g.bound, false); err != nil {
			return nil, err
		}
		return g, g.share(fd, why)
	}
	return g, nil
}

// Inherited is a socket that systemd passed to the master.
func Inherited(k Kernel, name string, fd int) (*Group, error) {
	if err := listeningStream(fd); err != nil {
		return nil, fmt.Errorf("master: descriptor %d (%q) of LISTEN_FDS: %w: only stream sockets with Accept=no can be shared",
			fd, name, err)
	}
	k.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	g := &Group{Address: Address{Name: name, Network: "inherited", Addr: fmt.Sprint(fd)}, kernel: k, shared: true,
		why: "sockets from systemd are shared by all workers"}
	g.sockets = []slotSocket{g.ownSocket(sharedSlot, fd)}
	_, g.text, _ = k.Bound(fd)
	return g, nil
}

// share makes fd the one socket of the group.
func (g *Group) share(fd int, why string) error {
	if err := g.listen(fd); err != nil {
		return err
	}
	g.shared, g.why, g.sockets = true, why, []slotSocket{g.ownSocket(sharedSlot, fd)}
	if g.text == "" {
		_, g.text, _ = g.kernel.Bound(fd)
	}
	return nil
}

// Add opens the socket of a slot, the last of the table.
func (g *Group) Add(slot int) error {
	if g.shared || g.index(slot) >= 0 {
		return nil
	}
	fd, err := g.kernel.Open(g.bound, true)
	if err == nil {
		err = g.listen(fd)
	}
	if err != nil {
		return fmt.Errorf("master: listen %s: %w", g.text, err)
	}
	g.sockets = append(g.sockets, g.ownSocket(slot, fd))
	g.changed++
	return nil
}

// listen has a new socket listen, or closes it.
func (g *Group) listen(fd int) error {
	err := g.kernel.Listen(fd, g.Blocking)
	if err != nil {
		g.kernel.Close(fd)
	}
	return err
}

// Reconfigure takes over what another configuration says of the same address. Sockets that are open stay as they are, but
// for the mode and group of a unix socket.
func (g *Group) Reconfigure(a Address) error {
	g.Name, g.Blocking, g.mode, g.group = a.Name, a.Blocking, a.mode, a.group
	return a.permit(a.mode)
}

// ownSocket is the entry of a socket of this process.
func (g *Group) ownSocket(slot, fd int) slotSocket {
	return slotSocket{slot: slot, fd: fd, inode: g.kernel.Inode(fd)}
}

// strangerSocket is the entry of a socket of another process.
func strangerSocket(inode uint64) slotSocket {
	return slotSocket{slot: strangerSlot, fd: -1, inode: inode}
}

// Remove closes the socket of a slot; the last of the table takes its place. What waits in its queue is reset.
func (g *Group) Remove(slot int) {
	if i := g.index(slot); i >= 0 && !g.shared {
		g.kernel.Close(g.sockets[i].fd)
		g.sockets = withoutIndex(g.sockets, i)
		g.changed++
	}
}

// withoutIndex is the kernel's rule: the last one moves into the hole.
func withoutIndex[T any](table []T, i int) []T {
	last := len(table) - 1
	table[i] = table[last]
	return table[:last]
}

// index returns the kernel's index of a slot's socket, -1 when it has none.
func (g *Group) index(slot int) int {
	for i, s := range g.sockets {
		if g.shared || s.slot == slot {
			return i
		}
	}
	return -1
}

// FD returns the socket that the worker of a slot gets, -1 when there is none.
func (g *Group) FD(slot int) int {
	if i := g.index(slot); i >= 0 {
		return g.sockets[i].fd
	}
	return -1
}

// Has reports whether there is a socket for the slot.
func (g *Group) Has(slot int) bool { return g.index(slot) >= 0 }

// Inode returns the inode of the socket that a slot has for itself; false when there is none.
func (g *Group) Inode(slot int) (uint64, bool) {
	if i := g.index(slot); i >= 0 && !g.shared {
		return g.sockets[i].inode, true
	}
	return 0, false
}

// Inodes returns the inodes of the sockets of this process.
func (g *Group) Inodes() (out []uint64) {
	for _, so := range g.sockets {
		if so.fd >= 0 {
			out = append(out, so.inode)
		}
	}
	return out
}

// Strangers returns the inodes of the sockets of other processes in the table.
func (g *Group) Strangers() (out []uint64) {
	for _, so := range g.sockets {
		if so.slot == strangerSlot {
			out = append(out, so.inode)
		}
	}
	return out
}

// Intact reports whether the slot's socket still listens. A worker that calls shutdown(2) on it ends that for every process.
func (g *Group) Intact(slot int) bool {
	fd := g.FD(slot)
	return g.shared || fd >= 0 && g.kernel.Listens(fd)
}

// Sharing returns why all slots share one socket; "" when each has its own.
func (g *Group) Sharing() string {
	if g.shared {
		return cmp.Or(g.why, "unknown")
	}
	return ""
}

// IsTCP reports whether the address is one of TCP.
func (g *Group) IsTCP() bool { return g.Network == "tcp" }

// IsInherited reports whether the socket came from systemd.
func (g *Group) IsInherited() bool { return g.Network == "inherited" }

// Where returns the address at which the sockets listen, with the port that the system chose for port 0.
func (g *Group) Where() string { return g.text }

// Close closes the sockets, and removes the file of a unix socket.
func (g *Group) Close() {
	for _, s := range g.sockets {
		if s.fd >= 0 {
			g.kernel.Close(s.fd)
		}
	}
	g.sockets = nil
	if g.Network == "unix" && g.Addr[0] != '@' {
		os.Remove(g.Addr)
	}
}

// InUse reports whether an address could not be opened because another process has it.
func InUse(err error) bool { return errors.Is(err, unix.EADDRINUSE) }
