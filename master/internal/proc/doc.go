// Package proc reads what the kernel says of processes and sockets under /proc, and of the limits of this process's cgroup.
//
// Nothing here needs a privilege. What this user may not see is left out: the descriptors of another user's process, for
// instance. On systems without /proc the functions return nothing, as their comments say. All functions are safe for concurrent
// use.
package proc
