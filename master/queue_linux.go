package master

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// queueLength returns how many connections wait to be accepted: of a listening socket tcpi_unacked says so.
func queueLength(fd int) int {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return int(info.Unacked)
}

func portOf(sa unix.Sockaddr) uint16 {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(sa.Port)
	case *unix.SockaddrInet6:
		return uint16(sa.Port)
	}
	return 0
}

// halfOpen returns the handshakes under way at a port: from sock_diag, or, where that is refused, from /proc.
func halfOpen(port uint16) []handshake {
	var out []handshake
	for _, family := range [...]uint8{unix.AF_INET, unix.AF_INET6} {
		found, err := diagnose(family, tcpSynRecv, port)
		if err != nil {
			return halfOpenFromProc(port)
		}
		for _, d := range found {
			out = append(out, handshake{port: port, from: d.remotePort(), remote: d.ID.Dst})
		}
	}
	return out
}

// halfOpenFromProc reads the same from /proc/net/tcp and tcp6.
func halfOpenFromProc(port uint16) (out []handshake) {
	for _, file := range [...]string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 4 || f[3] != "03" {
				continue
			}
			_, local, _ := cutLast(f[1], ":")
			ip, from, _ := cutLast(f[2], ":")
			ours, err1 := strconv.ParseUint(local, 16, 16)
			theirs, err2 := strconv.ParseUint(from, 16, 16)
			if err1 != nil || err2 != nil || uint16(ours) != port {
				continue
			}
			h := handshake{port: port, from: uint16(theirs)}
			for i := 0; i < len(h.remote) && 2*i+2 <= len(ip); i++ {
				b, _ := strconv.ParseUint(ip[2*i:2*i+2], 16, 8)
				h.remote[i] = byte(b)
			}
			out = append(out, h)
		}
	}
	return out
}
