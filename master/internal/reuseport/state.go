package reuseport

import (
	"fmt"
)

// State is a group in a handover. Its descriptors stay open over the exec.
type State struct {
	Name    string        `json:"name"`
	Network string        `json:"network"`
	Addr    string        `json:"addr"`
	Shared  bool          `json:"shared"`
	Why     string        `json:"why"`
	Since   int           `json:"since,omitempty"`
	Sockets []socketState `json:"sockets"` // in the order of the kernel's indexes
	// Strangers are the sockets of other processes in the table, by the indexes that they have in it. nil, as from a
	// master that does not compare its tables with the kernel's: unknown.
	Strangers map[int]uint64 `json:"strangers"`
}

// socketState is a socket of this process in a handover.
type socketState struct {
	Slot int `json:"slot"`
	FD   int `json:"fd"`
}

// State describes the group for a handover. keep has a descriptor stay open and returns its number in the next program.
func (g *Group) State(keep func(fd int) int) State {
	out := State{Name: g.Name, Network: g.Network, Addr: g.Addr, Shared: g.shared, Why: g.why, Since: g.Since}
	if !g.unsure {
		out.Strangers = make(map[int]uint64)
	}
	for i, so := range g.sockets {
		if so.fd >= 0 {
			out.Sockets = append(out.Sockets, socketState{so.slot, keep(so.fd)})
		} else if !g.unsure {
			out.Strangers[i] = so.inode
		}
	}
	return out
}

// Adopt goes on with an address's sockets.
func Adopt(k Kernel, gs State) (*Group, error) {
	g := &Group{Address: Address{Name: gs.Name, Network: gs.Network, Addr: gs.Addr}, kernel: k, shared: gs.Shared, why: gs.Why, Since: gs.Since}
	g.unsure = gs.Strangers == nil
	for _, so := range gs.Sockets {
		g.adoptStrangers(gs.Strangers)
		k.CloseOnExec(so.FD)
		g.sockets = append(g.sockets, g.ownSocket(so.Slot, so.FD))
	}
	g.adoptStrangers(gs.Strangers)
	if g.anyFD() < 0 {
		return nil, fmt.Errorf("master: adopt %s: it has no sockets", g.Spec())
	}
	sa, text, err := k.Bound(g.anyFD())
	if err != nil {
		return nil, fmt.Errorf("master: adopt %s: %w", g.Spec(), err)
	}
	g.text = text
	if g.Network == "tcp" {
		g.bound = sa
	}
	return g, nil
}

// adoptStrangers appends the strangers that come next in the table.
func (g *Group) adoptStrangers(strangers map[int]uint64) {
	for {
		inode, ok := strangers[len(g.sockets)]
		if !ok {
			return
		}
		g.sockets = append(g.sockets, strangerSocket(inode))
	}
}
