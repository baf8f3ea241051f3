package reuseport

import (
	"bytes"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/master/internal/proc"
)

// Members implements Kernel: those that listen at the same address, in the same way. Another user's cannot be there.
func (OS) Members(at unix.Sockaddr) (proc.Inodes, error) {
	family, ip, device, only := groupKey(at)
	found, err := diagnose(family, tcpListen, portOf(at))
	if err != nil {
		return membersFromProc(ip, portOf(at))
	}
	out := make(proc.Inodes, len(found))
	for _, d := range found {
		if d.Family == family && bytes.HasPrefix(d.ID.Src[:], ip) && d.ID.If == device && d.v6only == only {
			out[uint64(d.Inode)] = true
		}
	}
	return out, nil
}

// Refuse implements Kernel.
func (OS) Refuse(fd, ttl int, v6 bool) error {
	if v6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MINHOPCOUNT, ttl)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MINTTL, ttl)
}

// Drops implements Kernel.
func (OS) Drops(fd int) (uint32, error) { return drops(fd) }

// Probe implements Kernel.
func (OS) Probe(target unix.Sockaddr, v6 bool) (int, error) {
	family, level, opt := unix.AF_INET, unix.IPPROTO_IP, unix.IP_TTL
	if v6 {
		family, level, opt = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
	}
	fd, err := streamSocket(family)
	if err != nil {
		return -1, err
	}
	if err = unix.SetsockoptInt(fd, level, opt, probeTTL); err == nil {
		err = unix.Connect(fd, target)
	}
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Taken implements Kernel.
func (OS) Taken(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.State == tcpEstablished
}

// Reset implements Kernel.
func (OS) Reset(fd int) {
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(fd)
}
