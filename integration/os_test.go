package integration

import "golang.org/x/sys/unix"

// reusePort lets others listen on the address of a socket too.
func reusePort(fd uintptr) error {
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
}
