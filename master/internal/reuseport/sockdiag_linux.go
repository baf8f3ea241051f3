package reuseport

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

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

// States of a socket in sock_diag, and the attribute that says whether an IPv6 socket takes no IPv4.
const (
	tcpEstablished   = 1
	tcpSynRecv       = 3
	tcpListen        = 10
	inetDiagSkV6Only = 11
)

// diagSocket is one socket that sock_diag names.
type diagSocket struct {
	inetDiagMsg
	v6only bool
}

func (d *diagSocket) localPort() uint16  { return binary.BigEndian.Uint16(d.ID.Sport[:]) }
func (d *diagSocket) remotePort() uint16 { return binary.BigEndian.Uint16(d.ID.Dport[:]) }

// diagnose asks the kernel for the TCP sockets of one family and state at a local port.
func diagnose(family, state uint8, port uint16) ([]diagSocket, error) {
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
	request.Req = inetDiagReq{Family: family, Protocol: unix.IPPROTO_TCP, States: 1 << state}
	binary.BigEndian.PutUint16(request.Req.ID.Sport[:], port)
	if err := unix.Sendto(fd, (*[size]byte)(unsafe.Pointer(&request))[:], 0, &unix.SockaddrNetlink{
		Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var out []diagSocket
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return nil, err
		}
		found, over, err := parseDiagnosis(buf[:n], state, port)
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
func parseDiagnosis(b []byte, state uint8, port uint16) (out []diagSocket, over bool, err error) {
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
			d := diagSocket{}
			const fixed = int(unsafe.Sizeof(d.inetDiagMsg))
			if len(body) < fixed {
				return nil, false, errors.New("a short message of sock_diag")
			}
			copy((*[fixed]byte)(unsafe.Pointer(&d.inetDiagMsg))[:], body)
			d.v6only = attribute(body[fixed:], inetDiagSkV6Only) != 0
			if d.State == state && d.localPort() == port {
				out = append(out, d)
			}
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return out, false, nil
}

// attribute returns the first byte of a netlink attribute, 0 when there is none.
func attribute(b []byte, kind uint16) byte {
	for len(b) > unix.SizeofNlAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofNlAttr || size > len(b) {
			return 0
		}
		if binary.NativeEndian.Uint16(b[2:]) == kind && size > unix.SizeofNlAttr {
			return b[unix.SizeofNlAttr]
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return 0
}

// drops returns how many packets the kernel has dropped at a socket: word 8 of SO_MEMINFO (linux/sock_diag.h).
func drops(fd int) (uint32, error) {
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, errno
	}
	return info[8], nil
}
