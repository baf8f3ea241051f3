package listeners

import "net"

// DeferAccept does nothing: only Linux can keep a connection back until its first byte is there.
func DeferAccept(net.Listener) {}
