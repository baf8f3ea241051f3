package reuseport

// Handshake is a connection of which the SYN was answered and the last packet is not there yet.
type Handshake struct {
	Port   uint16 // ours
	Remote [16]byte
	From   uint16 // the other one's port
}

// Queued reports whether connections wait in the accept queue of a slot's socket. For a shared socket it returns false, because
// another worker takes them.
func (g *Group) Queued(slot int) bool {
	if i := g.index(slot); i >= 0 && !g.shared {
		return g.kernel.Queued(g.sockets[i].fd) > 0
	}
	return false
}

// Handshakes returns the half-open connections at the address; none for a shared socket.
func (g *Group) Handshakes() []Handshake {
	if g.shared {
		return nil
	}
	return g.kernel.HalfOpen(g.bound)
}
