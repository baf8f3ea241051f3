package reuseport

import (
	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/master/internal/proc"
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
func halfOpen(port uint16) []Handshake {
	var out []Handshake
	for _, family := range [...]uint8{unix.AF_INET, unix.AF_INET6} {
		found, err := diagnose(family, tcpSynRecv, port)
		if err != nil {
			return halfOpenFromProc(port)
		}
		for _, d := range found {
			out = append(out, Handshake{Port: port, From: d.remotePort(), Remote: d.ID.Dst})
		}
	}
	return out
}

// halfOpenFromProc reads the same from /proc/net.
func halfOpenFromProc(port uint16) (out []Handshake) {
	for _, s := range proc.TCPSockets() {
		if s.State == proc.SynReceived && s.LocalPort == port {
			h := Handshake{Port: port, From: s.RemotePort}
			copy(h.Remote[:], s.Remote)
			out = append(out, h)
		}
	}
	return out
}
