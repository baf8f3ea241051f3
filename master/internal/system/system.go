// Package system is what a master asks of the operating system. The supervisor asks through the interface System, so that another
// machine can take the place of the real one in a test. Linux and Darwin differ only here and in the packages that Machine uses:
// proc, reuseport, release and sdnotify.
package system

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/release"
	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/worker/sdnotify"
)

// System is the operating system as the supervisor sees it. The control goroutine calls it; methods that look at all processes are
// safe for concurrent use.
type System interface {
	// Now returns the time.
	Now() time.Time
	// After returns a channel that gets the time when d has passed.
	After(d time.Duration) <-chan time.Time
	// Random returns a random number from 0 to 1.
	Random() float64
	// Go runs f in a goroutine of its own.
	Go(f func())
	// Wait runs f, which waits for what another goroutine sends.
	Wait(f func())

	// PID returns this process's number.
	PID() int
	// Self returns the path of this program's executable, even when its file was replaced or removed.
	Self() (string, error)
	// MemoryLimit returns the memory limit of this process's cgroup in bytes; 0: none.
	MemoryLimit() int64
	// Start starts a process.
	Start(c Command) (pid int, err error)
	// Signal sends a signal to a process that this process has started and not reaped.
	Signal(pid int, sig syscall.Signal)
	// SignalGroup sends a signal to a process group whose leader this process has started and not reaped.
	SignalGroup(pgid int, sig syscall.Signal)
	// Ended reports whether a child has ended, and how. The leader of a group is not reaped by that.
	Ended(pid int, leads bool) (status syscall.WaitStatus, ended bool)
	// Reap takes the exit status of a child that has ended.
	Reap(pid int)
	// LeadsGroup reports whether a child leads a process group of its own.
	LeadsGroup(pid int) bool
	// StartTime returns when a process started, in the kernel's ticks; 0: there is none.
	StartTime(pid int) uint64
	// Children returns the pids of a process's children. It looks at all processes.
	Children(pid int) []int
	// Zombies returns the children of a process that have ended and wait to be reaped. It looks at all processes.
	Zombies(pid int) []int
	// GroupHolders returns the processes of a group that have one of the sockets. It looks at all processes.
	GroupHolders(pgid int, sockets proc.Inodes) []int
	// SocketHolders returns, by inode, which other processes have the sockets. It looks at all processes.
	SocketHolders(sockets proc.Inodes) map[uint64][]proc.Holder

	// AddressHolders returns which other processes listen at an address. It looks at all processes.
	AddressHolders(a reuseport.Address) []proc.Holder
	// Kernel returns what an address with its sockets asks.
	Kernel() reuseport.Kernel

	// NewReceiver opens a notify socket for a worker.
	NewReceiver() (Receiver, error)
	// AdoptReceiver goes on with a notify socket that another master left.
	AdoptReceiver(fd int, name string) (Receiver, error)

	// FindProgram returns the program of a command, see release.Find.
	FindProgram(command []string, dir string) (release.Program, error)
	// ResolveDir resolves the links of a directory, see release.ResolveDir.
	ResolveDir(dir string) (string, error)
	// Identify returns which file a path leads to, and its path without links.
	Identify(path string) (file release.File, resolved string, err error)
	// Exists reports whether there is something at the path.
	Exists(path string) bool

	// Check runs this program as it is on disk now in check mode, see release.Check.
	Check(ctx context.Context, env []string, checkEnv, wanted string) error
	// HoldSignals has signals wait, or ignores those that may be lost, which would end a program that was executed a moment ago.
	// The function returned undoes it, and has them come to c again. The same goroutine calls both.
	HoldSignals(c chan<- os.Signal) (release func())
	// HoldForks has no other goroutine start a process until the function returned is called.
	HoldForks() (release func())
	// Inherit has a descriptor stay open over an exec, or not any more.
	Inherit(fd int, stays bool) error
	// Duplicate returns another descriptor for the same, which stays open over an exec.
	Duplicate(fd int) (int, error)
	// Close closes a descriptor.
	Close(fd int)
	// StateFile returns the descriptor of a nameless file with that text, which stays open over an exec.
	StateFile(text []byte) (int, error)
	// Execute replaces this program by another one. It returns only if that failed.
	Execute(path string, args, env []string) error
}

// Receiver is the notify socket of a worker; sdnotify.Receiver has what the methods do.
type Receiver interface {
	Name() string
	Start()
	Run(pid int, pass func(sdnotify.Message))
	Look() uint32
	Finish()
	Control(f func(fd int) error) error
	Close()
}

// Command is how a process is started.
type Command struct {
	Path      string
	Args, Env []string
	Dir       string    // "": this process's
	Files     []uintptr // its descriptors, from 0 on
	OwnGroup  bool      // it leads a process group of its own, where the system can look after one
}

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
