package worker

import "net"

// deferAccept does nothing: only Linux can keep a connection back until its first byte is there.
func deferAccept(net.Listener) {}
