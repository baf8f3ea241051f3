package master

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// group is an address and its sockets. On Linux a TCP address has one socket for each slot, all in one SO_REUSEPORT group
// of the kernel; elsewhere, for unix sockets, for those of systemd and where the kernel refuses the steering program, one
// socket is shared by all slots.
//
// The kernel numbers the sockets of its group in the order in which they began to listen. When one is closed, the last one
// takes its number. The field sockets is that table, and sockets are opened and closed only by methods of group. Other
// processes of this user can join and leave the group, and a socket that is closed here keeps its place while another
// process holds it. compare brings the table up to date.
type group struct {
	address
	bound   unix.Sockaddr // nil for inherited ones
	text    string        // where it really is: port 0 replaced
	shared  bool
	why     string       // why it is shared
	sockets []slotSocket // by the kernel's index; the shared one alone

	changed  int       // sockets opened and closed here since the table was last compared with the kernel's group
	unsure   bool      // the order of the table is to be learned by a probe
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

// openGroup takes possession of an address. EADDRINUSE means that another process listens there: the error wraps it.
func openGroup(a address) (*group, error) {
	g := &group{address: a}
	if a.network == "unix" {
		fd, err := openUnix(a)
		if err == nil {
			err = g.share(fd, "unix sockets are shared by all workers")
		}
		return g, err
	}
	sa, err := resolve(a.addr)
	if err != nil {
		return nil, err
	}
	// Without SO_REUSEPORT, so that a foreign group on the address shows; kept only if the socket is to be shared.
	fd, err := openTCP(sa, false)
	if err != nil {
		return nil, err
	}
	if g.bound, g.text, err = boundTo(fd); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if !steerable {
		return g, g.share(fd, steeringMissing)
	}
	unix.Close(fd)
	if err := g.add(0); err != nil {
		return nil, err
	}
	if err := attach(g.sockets[0].fd, steeringProgram([]int{0})); err != nil {
		why := fmt.Sprintf("the kernel refuses the program: %v", err)
		g.remove(0)
		if fd, err = openTCP(g.bound, false); err != nil {
			return nil, err
		}
		return g, g.share(fd, why)
	}
	return g, nil
}

// inheritedGroup is a socket that systemd passed to the master.
func inheritedGroup(name string, fd int) (*group, error) {
	if err := listeningStream(fd); err != nil {
		return nil, fmt.Errorf("master: descriptor %d (%q) of LISTEN_FDS: %w: only stream sockets with Accept=no can be shared",
			fd, name, err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	g := &group{address: address{name: name, network: "inherited", addr: fmt.Sprint(fd)}, shared: true,
		why: "sockets from systemd are shared by all workers", sockets: []slotSocket{ownSocket(sharedSlot, fd)}}
	_, g.text, _ = boundTo(fd)
	return g, nil
}

// share makes fd the one socket of the group.
func (g *group) share(fd int, why string) error {
	if err := g.listen(fd); err != nil {
		return err
	}
	g.shared, g.why, g.sockets = true, why, []slotSocket{ownSocket(sharedSlot, fd)}
	if g.text == "" {
		_, g.text, _ = boundTo(fd)
	}
	return nil
}

// add opens the socket of a slot, the last of the table.
func (g *group) add(slot int) error {
	if g.shared || g.index(slot) >= 0 {
		return nil
	}
	fd, err := openTCP(g.bound, true)
	if err == nil {
		err = g.listen(fd)
	}
	if err != nil {
		return fmt.Errorf("master: listen %s: %w", g.text, err)
	}
	g.sockets = append(g.sockets, ownSocket(slot, fd))
	g.changed++
	return nil
}

// listen has a new socket listen, or closes it. This is the one moment at which it can be made blocking: later a worker may
// rely on what it is.
func (g *group) listen(fd int) error {
	err := os.NewSyscallError("listen", unix.Listen(fd, backlog))
	if err == nil && g.blocking {
		err = os.NewSyscallError("fcntl", unix.SetNonblock(fd, false))
	}
	if err != nil {
		unix.Close(fd)
	}
	return err
}

// reconfigure takes over what another configuration says of the same address. Sockets that are open stay as they are, but
// for the mode and group of a unix socket.
func (g *group) reconfigure(a address) error {
	g.name, g.blocking, g.mode, g.group = a.name, a.blocking, a.mode, a.group
	return a.permit(a.mode)
}

// ownSocket is the entry of a socket of this process.
func ownSocket(slot, fd int) slotSocket {
	so := slotSocket{slot: slot, fd: fd}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil {
		so.inode = st.Ino
	}
	return so
}

// strangerSocket is the entry of a socket of another process.
func strangerSocket(inode uint64) slotSocket {
	return slotSocket{slot: strangerSlot, fd: -1, inode: inode}
}

// remove closes the socket of a slot; the last of the table takes its place. What waits in its queue is reset.
func (g *group) remove(slot int) {
	if i := g.index(slot); i >= 0 && !g.shared {
		unix.Close(g.sockets[i].fd)
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
func (g *group) index(slot int) int {
	for i, s := range g.sockets {
		if g.shared || s.slot == slot {
			return i
		}
	}
	return -1
}

// fd returns the socket that the worker of a slot gets, -1 when there is none.
func (g *group) fd(slot int) int {
	if i := g.index(slot); i >= 0 {
		return g.sockets[i].fd
	}
	return -1
}

// close closes the sockets, and removes the file of a unix socket.
func (g *group) close() {
	for _, s := range g.sockets {
		if s.fd >= 0 {
			unix.Close(s.fd)
		}
	}
	g.sockets = nil
	if g.network == "unix" && g.addr[0] != '@' {
		os.Remove(g.addr)
	}
}

// inUse reports whether an address could not be had because somebody else has it.
func inUse(err error) bool { return errors.Is(err, unix.EADDRINUSE) }
