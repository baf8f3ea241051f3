package reuseport

import "golang.org/x/sys/unix"

// streamSocket opens a socket that no child inherits unless it is handed over.
func streamSocket(family int) (int, error) {
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
}
