package proc

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"os"
	"strconv"
	"strings"
)

// The states of a TCP socket, as the kernel numbers them.
const (
	SynReceived = 3
	listening   = 10
)

// TCPSocket is a TCP socket of this network namespace.
type TCPSocket struct {
	Local, Remote         net.IP // 4 bytes for IPv4, 16 for IPv6
	LocalPort, RemotePort uint16
	State                 uint8
	Inode                 uint64
}

// TCPSockets returns the TCP sockets of both families. A family that cannot be read is left out. It reads /proc/net itself:
// procfs deprecates its readers of these files in favor of netlink, and this is for where netlink is refused.
func TCPSockets() (out []TCPSocket) {
	for _, file := range [...]string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
			f := strings.Fields(line)
			if len(f) < 10 {
				continue
			}
			var s TCPSocket
			var err error
			s.Local, s.LocalPort, err = parseEndpoint(f[1])
			if err != nil {
				continue // the heading
			}
			s.Remote, s.RemotePort, _ = parseEndpoint(f[2])
			state, _ := strconv.ParseUint(f[3], 16, 8)
			s.State = uint8(state)
			s.Inode, _ = strconv.ParseUint(f[9], 10, 64)
			out = append(out, s)
		}
	}
	return out
}

// parseEndpoint reads ADDRESS:PORT. The address is written as words of the machine's byte order, the port as a number.
func parseEndpoint(text string) (net.IP, uint16, error) {
	address, port, _ := strings.Cut(text, ":")
	words, err := hex.DecodeString(address)
	if err != nil {
		return nil, 0, err
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return nil, 0, err
	}
	ip := make(net.IP, 0, len(words))
	for len(words) >= 4 {
		ip = binary.BigEndian.AppendUint32(ip, binary.NativeEndian.Uint32(words))
		words = words[4:]
	}
	return ip, uint16(n), nil
}

// Listens reports whether the socket is a listening one.
func (s TCPSocket) Listens() bool { return s.State == listening }

// AtPort returns the sockets that listen at a TCP port, whatever the address.
func AtPort(port string) Inodes {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil
	}
	out := make(Inodes)
	for _, s := range TCPSockets() {
		if s.Listens() && s.LocalPort == uint16(n) {
			out[s.Inode] = true
		}
	}
	return out
}

// AtPath returns the unix sockets that are bound to the path.
func AtPath(path string) Inodes {
	return unixSockets(func(s unixSocket) bool { return s.path == path })
}

// StillListening returns those of the sockets that listen. The others are gone, and another socket may have got the inode.
func StillListening(sockets []uint64) Inodes {
	listening := unixSockets(func(s unixSocket) bool { return s.listens })
	for _, s := range TCPSockets() {
		if s.Listens() {
			listening[s.Inode] = true
		}
	}
	out := make(Inodes)
	for _, inode := range sockets {
		if listening[inode] {
			out[inode] = true
		}
	}
	return out
}

type unixSocket struct {
	inode   uint64
	path    string
	listens bool
}

// unixSockets returns the unix sockets that match. It reads /proc/net/unix itself: procfs refuses the whole file because of one
// line that it cannot read, and every local user can make one, by a path with a line break.
func unixSockets(match func(unixSocket) bool) Inodes {
	out := make(Inodes)
	text, _ := os.ReadFile("/proc/net/unix")
	for line := range strings.Lines(string(text)) {
		// Num RefCount Protocol Flags Type St Inode Path
		f := strings.Fields(line)
		if len(f) < 7 {
			continue
		}
		inode, err := strconv.ParseUint(f[6], 10, 64)
		if err != nil {
			continue
		}
		const acceptsConnections = "00010000" // __SO_ACCEPTCON
		s := unixSocket{inode: inode, listens: f[3] == acceptsConnections}
		if len(f) > 7 {
			s.path = f[7]
		}
		if match(s) {
			out[inode] = true
		}
	}
	return out
}
