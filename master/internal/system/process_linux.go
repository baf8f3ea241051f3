package system

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attributes are how a process starts. With ownGroup it leads a process group, so that what it starts can be found when it has
// ended. It stays in the master's session.
func attributes(ownGroup bool) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: ownGroup} }

// leadsGroup reports whether a child leads a process group of its own.
func leadsGroup(pid int) bool {
	pgid, err := unix.Getpgid(pid)
	return err == nil && pgid == pid
}

// endedUnreaped returns how a child has ended and leaves it a zombie.
func endedUnreaped(pid int) (status syscall.WaitStatus, ended bool) {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, errors.Is(err, unix.ECHILD)
		}
		break
	}
	if info.Signo == 0 {
		return 0, false
	}
	// Of a child x/sys names no fields: pid, uid and status follow a header of 16 bytes.
	status = syscall.WaitStatus(*(*int32)(unsafe.Add(unsafe.Pointer(&info), 24)))
	const (
		exited = 1 // CLD_EXITED: status is the exit status; else a signal
		dumped = 3 // CLD_DUMPED
	)
	switch info.Code {
	case exited:
		status <<= 8
	case dumped:
		status |= 0x80
	}
	return status, true
}
