package master

import (
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"strings"
	"unsafe"

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
		found, err := diagnose(family, port)
		if err != nil {
			return halfOpenFromProc(port)
		}
		out = append(out, found...)
	}
	return out
}

// The messages of sock_diag (linux/inet_diag.h), which x/sys does not have. Ports and addresses are in network order.
type (
	inetDiagSockID struct {
		Sport, Dport [2]byte
		Src, Dst     [16]byte
		If           uint32
		Cookie       [2]uint32
	}
	inetDiagReq struct {
		Family, Protocol, Ext, Pad uint8
		States                     uint32
		ID                         inetDiagSockID
	}
	inetDiagMsg struct {
		Family, State, Timer, Retrans uint8
		ID                            inetDiagSockID
		Expires, Rqueue, Wqueue       uint32
		UID, Inode                    uint32
	}
)

const synRecv = 3 // TCP_SYN_RECV

// diagnose asks the kernel for the sockets of one family in SYN_RECV.
func diagnose(family uint8, port uint16) ([]handshake, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	timeout := unix.Timeval{Sec: 1}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return nil, err
	}
	var request struct {
		Header unix.NlMsghdr
		Req    inetDiagReq
	}
	const size = unsafe.Sizeof(request)
	request.Header = unix.NlMsghdr{Len: uint32(size), Type: unix.SOCK_DIAG_BY_FAMILY,
		Flags: unix.NLM_F_REQUEST | unix.NLM_F_DUMP}
	request.Req = inetDiagReq{Family: family, Protocol: unix.IPPROTO_TCP, States: 1 << synRecv}
	binary.BigEndian.PutUint16(request.Req.ID.Sport[:], port)
	if err := unix.Sendto(fd, (*[size]byte)(unsafe.Pointer(&request))[:], 0, &unix.SockaddrNetlink{
		Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var out []handshake
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return nil, err
		}
		found, over, err := parseDiagnosis(buf[:n], port)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
		if over {
			return out, nil
		}
	}
}

// parseDiagnosis reads the messages of one answer; over is the end of the whole.
func parseDiagnosis(b []byte, port uint16) (out []handshake, over bool, err error) {
	const header = unix.SizeofNlMsghdr
	for len(b) >= header {
		size := int(binary.NativeEndian.Uint32(b))
		if size < header || size > len(b) {
			return nil, false, errors.New("a broken message of sock_diag")
		}
		body := b[header:size]
		switch kind := binary.NativeEndian.Uint16(b[4:]); kind {
		case unix.NLMSG_DONE:
			return out, true, nil
		case unix.NLMSG_ERROR:
			return nil, false, errors.New("sock_diag is refused")
		case unix.SOCK_DIAG_BY_FAMILY:
			if len(body) < int(unsafe.Sizeof(inetDiagMsg{})) {
				return nil, false, errors.New("a short message of sock_diag")
			}
			// Family, State, Timer and Retrans are one byte each, then come the ports and addresses.
			h := handshake{port: binary.BigEndian.Uint16(body[4:]), from: binary.BigEndian.Uint16(body[6:]),
				remote: [16]byte(body[24:40])}
			if body[1] == synRecv && h.port == port {
				out = append(out, h)
			}
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return out, false, nil
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
