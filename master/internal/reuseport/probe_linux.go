package reuseport

import (
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/master/internal/proc"
)

// How long one probe may take to arrive, how often it is sent again, and how long the probes of one group may take.
const (
	probeWait  = 20 * time.Millisecond
	probeTries = 5
	probeMost  = 2 * time.Second
)

// probeTTL is the time to live of a probe, which the group's sockets refuse meanwhile.
const probeTTL = 1

// prober learns the order of a group's sockets. It has the kernel send each index a SYN with a time to live that our sockets refuse,
// and looks whose counter of dropped packets rises; a stranger's socket takes the connection instead. No worker sees a
// probe, other connections go where they did before, and no privilege is needed.
type prober struct {
	group  *Group
	own    []slotSocket
	target unix.Sockaddr
	v6     bool // the probes are IPv6 packets
	until  time.Time
}

// probe puts the table, which has all members, in the kernel's order. If that cannot be learned the table stays.
func (g *Group) probe() error {
	p := &prober{group: g, until: g.kernel.Now().Add(probeMost)}
	for _, so := range g.sockets {
		if so.fd >= 0 {
			p.own = append(p.own, so)
		}
	}
	if len(p.own) == 0 {
		return errors.New("no socket of this process is left in the group")
	}
	p.target, p.v6 = probeTarget(g.bound)
	if err := p.refuse(probeTTL + 1); err != nil {
		return err
	}
	defer p.refuse(0)
	for g.kernel.Now().Before(p.until) {
		members, err := g.kernel.Members(g.bound)
		if err != nil {
			return err
		}
		table, err := p.learn(len(members))
		if err != nil {
			return err
		}
		after, err := g.kernel.Members(g.bound)
		if err != nil {
			return err
		}
		if table != nil && maps.Equal(members, after) {
			g.sockets = nameStrangers(table, p.own, members)
			return nil
		}
	}
	return errors.New("the order of the sockets could not be learned in time")
}

// nameStrangers gives the strangers of a table their inodes. Of several it is unknown which is which.
func nameStrangers(table, own []slotSocket, members proc.Inodes) []slotSocket {
	var strangers []uint64
	for inode := range members {
		if !slices.ContainsFunc(own, func(so slotSocket) bool { return so.inode == inode }) {
			strangers = append(strangers, inode)
		}
	}
	for i := range table {
		if table[i].fd < 0 && len(strangers) > 0 {
			table[i].inode, strangers = strangers[0], strangers[1:]
		}
	}
	return table
}

// probeTarget is where a probe is sent to: the group's own address, or loopback for every interface. A socket of both
// families is probed by IPv4.
func probeTarget(bound unix.Sockaddr) (target unix.Sockaddr, v6 bool) {
	loopback := [4]byte{127, 0, 0, 1}
	switch sa := bound.(type) {
	case *unix.SockaddrInet4:
		if sa.Addr != [4]byte{} {
			return sa, false
		}
		return &unix.SockaddrInet4{Port: sa.Port, Addr: loopback}, false
	case *unix.SockaddrInet6:
		if sa.Addr != [16]byte{} {
			return sa, true
		}
		return &unix.SockaddrInet4{Port: sa.Port, Addr: loopback}, false
	}
	return bound, false
}

// refuse has our sockets drop what has a lower time to live; 0 ends that.
func (p *prober) refuse(ttl int) error {
	for _, so := range p.own {
		if err := p.group.kernel.Refuse(so.fd, ttl, p.v6); err != nil {
			return err
		}
	}
	return nil
}

// learn sends a probe to each of n indexes. The table is nil when what was seen does not fit together.
func (p *prober) learn(n int) (table []slotSocket, err error) {
	left := slices.Clone(p.own)
	for k := range n {
		if p.group.kernel.Now().After(p.until) {
			return nil, nil
		}
		if err := p.group.kernel.Attach(p.own[0].fd, probeProgram(k, p.group.attached, p.v6)); err != nil {
			return nil, err
		}
		i, err := p.look(left, p.guess(k, left))
		if err != nil {
			return nil, err
		}
		if i < 0 {
			table = append(table, strangerSocket(0))
			continue
		}
		table = append(table, left[i])
		left = slices.Delete(left, i, i+1)
	}
	if len(left) > 0 {
		return nil, nil
	}
	return table, nil
}

// guess returns which of the sockets has the index as far as the table goes.
func (p *prober) guess(k int, among []slotSocket) int {
	if table := p.group.sockets; k < len(table) {
		return max(0, slices.Index(among, table[k]))
	}
	return 0
}

// look returns the index of the socket that drops the probes, and -1 when none does. It first asks the expected socket
// alone.
func (p *prober) look(among []slotSocket, guess int) (int, error) {
	if len(among) == 0 {
		return -1, nil
	}
	i, err := p.find(among[guess:guess+1], 2, 0)
	if err != nil || i == 0 {
		return guess, err
	}
	return p.find(among, probeTries, probeWait)
}

// find is look for some sockets, with a number of probes and a time for each to arrive. Two probes in a row must agree,
// because a counter can rise for another reason.
func (p *prober) find(among []slotSocket, tries int, wait time.Duration) (int, error) {
	last := -1
	before := make([]uint32, len(among))
	for range tries {
		for i, so := range among {
			before[i], _ = p.group.kernel.Drops(so.fd)
		}
		fd, err := p.group.kernel.Probe(p.target, p.v6)
		if err != nil {
			return -1, err
		}
		risen, taken := p.watch(fd, among, before, wait)
		p.group.kernel.Reset(fd)
		switch {
		case taken:
			return -1, nil
		case len(risen) != 1:
			last = -1
		case risen[0] == last:
			return last, nil
		default:
			last = risen[0]
		}
	}
	return -1, nil
}

// watch waits until a counter has risen or the connection stands.
func (p *prober) watch(fd int, among []slotSocket, before []uint32, wait time.Duration) (risen []int, taken bool) {
	kernel := p.group.kernel
	for deadline := kernel.Now().Add(wait); ; kernel.Sleep(probeWait / 100) {
		for i, so := range among {
			if now, err := kernel.Drops(so.fd); err == nil && now != before[i] {
				risen = append(risen, i)
			}
		}
		taken = kernel.Taken(fd)
		if len(risen) > 0 || taken || kernel.Now().After(deadline) {
			return risen, taken
		}
	}
}

// Where a packet has its time to live: the offset that means the network header (SKF_NET_OFF of linux/filter.h), and those of
// the field in the headers of IPv4 and IPv6.
const (
	netOff    = -0x100000
	ttlOffset = 8
	hopOffset = 7
)

// probeProgram sends the probes to the index and everything else to the others.
func probeProgram(index int, others []int, v6 bool) []bpf.Instruction {
	if len(others) == 0 {
		others = []int{index}
	}
	rest := steeringProgram(others)
	if rest == nil {
		return nil
	}
	offset := netOff + ttlOffset
	if v6 {
		offset = netOff + hopOffset
	}
	return append([]bpf.Instruction{
		bpf.LoadAbsolute{Off: uint32(int32(offset)), Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: probeTTL, SkipFalse: 1},
		bpf.RetConstant{Val: uint32(index)},
	}, rest...)
}
