// Package sdnotify speaks systemd's two protocols between a supervisor and its service, both ends of each: sd_notify, by which a
// service says that it is ready, and socket activation, by which it gets its listening sockets.
//
// A Notifier sends what a service says to the socket that NOTIFY_SOCKET names. A Receiver is that socket: it passes on what the
// service's own process said, and survives whatever other local users send. Sockets is what LISTEN_FDS, LISTEN_PID and
// LISTEN_FDNAMES say.
package sdnotify
