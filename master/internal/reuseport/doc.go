// Package reuseport owns the listening sockets that a master shares with its workers, and steers new connections to them.
//
// An Address is one entry of the configuration. A Group is an address with its sockets: on Linux a TCP address has one socket for
// each slot, all in one SO_REUSEPORT group of the kernel, and a classic BPF program that chooses among those whose worker is
// ready. Elsewhere, for unix sockets, for sockets from systemd and where the kernel refuses the program, all slots share one
// socket.
//
// The package never accepts a connection, never joins another server's group, and never calls shutdown(2) or listen(fd, 0). A
// Group is used by one goroutine at a time.
package reuseport
