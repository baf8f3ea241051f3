package master

// handshake is a connection of which the SYN was answered and the last packet is not there yet.
type handshake struct {
	port   uint16 // ours
	remote [16]byte
	from   uint16
}

// queued reports whether connections wait in the accept queue of a slot's socket. Of a shared socket that is nobody's
// business: another worker takes them.
func (g *group) queued(slot int) bool {
	if i := g.index(slot); i >= 0 && !g.shared {
		return queueLength(g.sockets[i].fd) > 0
	}
	return false
}

// handshakes returns what is half open at the address; nothing for shared sockets.
func (g *group) handshakes() []handshake {
	if g.shared {
		return nil
	}
	return halfOpen(portOf(g.bound))
}
