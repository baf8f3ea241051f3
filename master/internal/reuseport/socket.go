package reuseport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// backlog is as long as the system allows: it cuts the number to its own limit (somaxconn).
const backlog = 65535

// resolve returns the socket address of host:port, without a name lookup that could change between two calls. An empty
// host is every interface, IPv6 and IPv4 in one socket where the system has IPv6.
func resolve(addr string) (unix.Sockaddr, error) {
	t, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, err
	}
	if t.IP == nil {
		if hasIPv6() {
			return &unix.SockaddrInet6{Port: t.Port}, nil
		}
		return &unix.SockaddrInet4{Port: t.Port}, nil
	}
	if ip := t.IP.To4(); ip != nil {
		return &unix.SockaddrInet4{Port: t.Port, Addr: [4]byte(ip)}, nil
	}
	sa := &unix.SockaddrInet6{Port: t.Port, Addr: [16]byte(t.IP.To16())}
	if t.Zone != "" {
		if i, err := net.InterfaceByName(t.Zone); err == nil {
			sa.ZoneId = uint32(i.Index)
		} else if n, err := strconv.ParseUint(t.Zone, 10, 32); err == nil {
			sa.ZoneId = uint32(n)
		} else {
			return nil, fmt.Errorf("no interface %q", t.Zone)
		}
	}
	return sa, nil
}

// ListenTCP returns a socket that listens at host:port for this process alone.
func ListenTCP(addr string) (fd int, err error) {
	sa, err := resolve(addr)
	if err != nil {
		return -1, err
	}
	if fd, err = openTCP(sa, false); err != nil {
		return -1, err
	}
	if err = os.NewSyscallError("listen", unix.Listen(fd, backlog)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// LookUp returns an error when host:port is not an address of this machine, as far as that can be known without a socket.
func LookUp(addr string) error {
	_, err := resolve(addr)
	return err
}

// BoundAddress returns where a socket listens, with the port that the system chose for port 0.
func BoundAddress(fd int) (string, error) {
	_, text, err := boundTo(fd)
	return text, err
}

func hasIPv6() bool {
	fd, err := streamSocket(unix.AF_INET6)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}) == nil
}

// openTCP binds a non-blocking socket, and not an MPTCP one, on which no program could be attached. With reusePort it
// may join others of this user that have it; without, the address must be free.
func openTCP(sa unix.Sockaddr, reusePort bool) (fd int, err error) {
	family := unix.AF_INET
	v6, ok := sa.(*unix.SockaddrInet6)
	if ok {
		family = unix.AF_INET6
	}
	if fd, err = streamSocket(family); err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	set := func(level, opt, value int, what string) {
		if err == nil {
			err = os.NewSyscallError("setsockopt "+what, unix.SetsockoptInt(fd, level, opt, value))
		}
	}
	set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, "SO_REUSEADDR")
	if reusePort {
		set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, "SO_REUSEPORT")
	}
	if ok {
		only := 1
		if v6.Addr == [16]byte{} {
			only = 0
		}
		set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only, "IPV6_V6ONLY")
	}
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, sa))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// openUnix binds the path. A file of a server that has gone is removed; one on which somebody listens is in use. Until it
// has its mode and group nobody else can connect.
func openUnix(a Address) (int, error) {
	named := a.Addr[0] != '@'
	if named {
		if listening, err := listens(a.Addr); listening || err != nil {
			if err == nil {
				err = unix.EADDRINUSE
			}
			return -1, err
		}
	}
	fd, err := streamSocket(unix.AF_UNIX)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	umask, err := bindPrivately(fd, a.Addr)
	if err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	if named {
		mode := os.FileMode(0o777 &^ umask)
		if a.mode != nil {
			mode = *a.mode
		}
		if err := a.permit(&mode); err != nil {
			unix.Close(fd)
			os.Remove(a.Addr)
			return -1, err
		}
	}
	return fd, nil
}

// bindPrivately binds a unix socket to a path that only this user can connect to, and returns the process's umask. That is
// the whole process's, so no child may be started meanwhile.
func bindPrivately(fd int, path string) (umask int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	umask = unix.Umask(0o177)
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	unix.Umask(umask)
	return umask, err
}

// permit gives the socket's file its group, where there is one, and then the mode. Neither follows a link that somebody put
// in its place.
func (a Address) permit(mode *os.FileMode) error {
	if a.group != nil {
		if err := os.Lchown(a.Addr, -1, *a.group); err != nil {
			return err
		}
	}
	if mode == nil {
		return nil
	}
	err := unix.Fchmodat(unix.AT_FDCWD, a.Addr, uint32(*mode), unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) { // Linux before 6.6
		err = unix.Fchmodat(unix.AT_FDCWD, a.Addr, uint32(*mode), 0)
	}
	return os.NewSyscallError("chmod", err)
}

// listens reports whether somebody accepts connections at path, and removes a socket that nobody has any more.
func listens(path string) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return false, errors.New("there is a file that is no socket: remove it or choose another path")
	}
	fd, err := streamSocket(unix.AF_UNIX)
	if err != nil {
		return false, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); {
	case errors.Is(err, unix.ECONNREFUSED):
		return false, os.Remove(path)
	case err == nil || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINPROGRESS):
		return true, nil
	default:
		return false, os.NewSyscallError("connect", err)
	}
}

// boundTo returns the address that the socket has, with the port that the system chose for port 0.
func boundTo(fd int) (unix.Sockaddr, string, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, "", os.NewSyscallError("getsockname", err)
	}
	return sa, sockaddrText(sa), nil
}

func sockaddrText(sa unix.Sockaddr) string {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
	case *unix.SockaddrInet6:
		ip := netip.AddrFrom16(sa.Addr)
		if sa.ZoneId != 0 {
			ip = ip.WithZone(strconv.Itoa(int(sa.ZoneId)))
		}
		return netip.AddrPortFrom(ip, uint16(sa.Port)).String()
	case *unix.SockaddrUnix:
		return "unix:" + sa.Name
	}
	return "unknown"
}

// stillListens reports whether the socket is a listening one: a worker that calls shutdown(2) on it ends that for all.
func stillListens(fd int) bool {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err != nil || n != 0
}

// listeningStream returns an error when a descriptor is not a listening stream socket.
func listeningStream(fd int) error {
	if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil {
		return os.NewSyscallError("getsockopt", err)
	} else if n == 0 {
		return errors.New("it does not listen")
	}
	if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || n != unix.SOCK_STREAM {
		return errors.New("it is no stream socket")
	}
	return nil
}
