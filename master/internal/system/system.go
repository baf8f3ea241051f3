// Package system is what a master asks of the operating system about processes: to start them, to signal them, to learn how they
// have ended, and to execute another program in its own place. Linux and Darwin differ only here and in the packages proc,
// reuseport and sdnotify.
package system

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Command is how a process is started.
type Command struct {
	Path      string
	Args, Env []string
	Dir       string    // "": this process's
	Files     []uintptr // its descriptors, from 0 on
	OwnGroup  bool      // it leads a process group of its own, where the system can look after one
}

// Start starts a process.
func Start(c Command) (pid int, err error) {
	return syscall.ForkExec(c.Path, c.Args, &syscall.ProcAttr{Env: c.Env, Files: c.Files, Dir: c.Dir, Sys: attributes(c.OwnGroup)})
}

// Signal sends a signal to a process that this process has started and not reaped.
func Signal(pid int, sig syscall.Signal) { syscall.Kill(pid, sig) }

// SignalGroup sends a signal to a process group whose leader this process has started and not reaped.
func SignalGroup(pgid int, sig syscall.Signal) { syscall.Kill(-pgid, sig) }

// Ended reports whether a child has ended, and how. The leader of a group is not reaped by that.
func Ended(pid int, leads bool) (status syscall.WaitStatus, ended bool) {
	if leads {
		return endedUnreaped(pid)
	}
	got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
	return status, got == pid || errors.Is(err, syscall.ECHILD)
}

// Reap takes the exit status of a child that has ended.
func Reap(pid int) { syscall.Wait4(pid, nil, syscall.WNOHANG, nil) }

// Lifeline is a pipe whose writing end only the master has: when it is closed, the master has gone.
type Lifeline struct{ Read, Write int }

// NewLifeline opens a Lifeline. No child inherits it unless it is handed over.
func NewLifeline() (Lifeline, error) {
	var fds [2]int
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := syscall.Pipe(fds[:]); err != nil {
		return Lifeline{}, os.NewSyscallError("pipe", err)
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	return Lifeline{Read: fds[0], Write: fds[1]}, nil
}

// Close closes both ends. The zero value has none.
func (l Lifeline) Close() {
	if l.Write != 0 {
		syscall.Close(l.Write)
		syscall.Close(l.Read)
	}
}

// writeAll writes the whole text.
func writeAll(fd int, text []byte) error {
	for len(text) > 0 {
		n, err := unix.Write(fd, text)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("write", err)
		}
		text = text[max(n, 0):]
	}
	return nil
}
