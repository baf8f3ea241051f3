package master

import (
	"maps"
	"slices"
	"time"

	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/reuseport"
)

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

// lookForStrangers compares the tables with the kernel's groups and names who has joined one.
func (s *supervisor) lookForStrangers(now time.Time) {
	if !s.due(s.strangers.lookAt, now) {
		return
	}
	s.strangers.lookAt = now.Add(lookInterval)
	s.wake(s.strangers.lookAt)
	found := make(map[uint64]string) // addresses by inode
	for _, g := range s.groups {
		changed, err := g.Compare()
		if changed {
			s.steered = nil
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
	s.background(func() func() {
		holders := proc.HoldersBySocket(unnamed)
		return func() {
			s.strangers.looking = false
			for inode := range unnamed {
				s.nameStranger(inode, found[inode], holders[inode])
			}
		}
	})
}

func (s *supervisor) nameStranger(inode uint64, address string, hs []proc.Holder) {
	st := Stranger{Address: address, Inode: inode, Holders: []Holder{}}
	for _, h := range hs {
		st.Holders = append(st.Holders, Holder{PID: h.PID, Name: h.Name})
	}
	if s.strangers.named == nil {
		s.strangers.named = make(map[uint64]Stranger)
	}
	s.strangers.named[inode] = st
	s.log.Warn("another process listens at the workers' address: no connection is steered to it", "address", address,
		"inode", inode, "holders", proc.Text(hs), "help", "stop it")
}

// sayTrouble logs why a table could not be compared, once.
func (s *supervisor) sayTrouble(g *reuseport.Group, err error) {
	if err == nil {
		return
	}
	if text := err.Error(); text != s.strangers.trouble {
		s.strangers.trouble = text
		s.log.Warn("it is not known whether other processes listen at the workers' address, and in which order: connections "+
			"may wait where nobody accepts", "address", g.Where(), "err", err)
	}
}

// list returns the strangers for the status.
func (st *strangers) list() []Stranger {
	inodes := slices.Sorted(maps.Keys(st.named))
	var out []Stranger
	for _, inode := range inodes {
		out = append(out, st.named[inode])
	}
	return out
}
