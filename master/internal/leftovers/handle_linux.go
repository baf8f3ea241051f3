package leftovers

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// processHandle is a pidfd, which stays the process's when the pid is given out again; -1 for none.
type processHandle int

func openProcess(pid int) processHandle {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1
	}
	return processHandle(fd)
}

func (h processHandle) signal(sig syscall.Signal) {
	if h > 0 {
		unix.PidfdSendSignal(int(h), sig, nil, 0)
	}
}

func (h processHandle) close() {
	if h > 0 {
		unix.Close(int(h))
	}
}
