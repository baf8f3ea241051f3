package sockets

import (
	"maps"
	"slices"
	"time"

	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/reuseport"
)

// Stranger is a socket of another process at one of the addresses.
type Stranger struct {
	Address string
	Inode   uint64
	Holders []proc.Holder // none: this user may not see them
}

// strangers are the sockets of other processes in the groups of our addresses. No connection is steered to them, but
// while they are there a scale-up, a scale-down or a kernel without our program could go wrong, so they are named.
type strangers struct {
	named   map[uint64]Stranger
	looking bool // who they are is being looked up
	lookAt  time.Time
	trouble string // why the tables could not be compared, when that was logged last
}

// lookInterval is how often the tables are compared with the kernel's groups, beside each use of them.
const lookInterval = time.Second

// LookForStrangers compares the tables with the kernel's groups and logs which processes have joined one.
func (s *Sockets) LookForStrangers(now time.Time) {
	if !s.loop.Due(s.strangers.lookAt, now) {
		return
	}
	s.strangers.lookAt = now.Add(lookInterval)
	s.loop.Wake(s.strangers.lookAt)
	found := make(map[uint64]string) // addresses by inode
	for _, g := range s.groups {
		changed, err := g.Compare()
		if changed {
			s.SteerAnew()
		}
		s.sayTrouble(g, err)
		for _, inode := range g.Strangers() {
			found[inode] = g.Where()
		}
	}
	maps.DeleteFunc(s.strangers.named, func(inode uint64, st Stranger) bool {
		_, there := found[inode]
		if !there {
			s.log.Info("a socket of another process has left the address", "address", st.Address, "inode", inode)
		}
		return !there
	})
	unnamed := make(proc.Inodes)
	for inode := range found {
		if _, ok := s.strangers.named[inode]; !ok {
			unnamed[inode] = true
		}
	}
	if len(unnamed) == 0 || s.strangers.looking {
		return
	}
	s.strangers.looking = true
	s.loop.Background(func() func() {
		holders := s.sys.SocketHolders(unnamed)
		return func() {
			s.strangers.looking = false
			for inode := range unnamed {
				s.nameStranger(inode, found[inode], holders[inode])
			}
		}
	})
}

func (s *Sockets) nameStranger(inode uint64, address string, hs []proc.Holder) {
	s.strangers.named[inode] = Stranger{Address: address, Inode: inode, Holders: hs}
	s.log.Warn("another process listens at the workers' address: no connection is steered to it", "address", address,
		"inode", inode, "holders", proc.Text(hs), "help", "stop it")
}

// sayTrouble logs why a table could not be compared, once.
func (s *Sockets) sayTrouble(g *reuseport.Group, err error) {
	if err == nil {
		return
	}
	if text := err.Error(); text != s.strangers.trouble {
		s.strangers.trouble = text
		s.log.Warn("it is not known whether other processes listen at the workers' address, and in which order: connections "+
			"may wait where nobody accepts", "address", g.Where(), "err", err)
	}
}

// Strangers returns the sockets of other processes at the addresses, in the order of their inodes.
func (s *Sockets) Strangers() []Stranger {
	inodes := slices.Sorted(maps.Keys(s.strangers.named))
	var out []Stranger
	for _, inode := range inodes {
		out = append(out, s.strangers.named[inode])
	}
	return out
}
