package system

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/master/internal/bootstrap"
	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/release"
	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/worker/sdnotify"
)

// Machine is the real System.
type Machine struct{}

// Now implements System.
func (Machine) Now() time.Time { return time.Now() }

// After implements System.
func (Machine) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Random implements System.
func (Machine) Random() float64 { return rand.Float64() }

// Go implements System.
func (Machine) Go(f func()) { go f() }

// Wait implements System.
func (Machine) Wait(f func()) { f() }

// PID implements System.
func (Machine) PID() int { return os.Getpid() }

// Self implements System.
func (Machine) Self() (string, error) { return self() }

// MemoryLimit implements System.
func (Machine) MemoryLimit() int64 { return proc.MemoryLimit() }

// Start implements System.
func (Machine) Start(c Command) (pid int, err error) {
	return syscall.ForkExec(c.Path, c.Args, &syscall.ProcAttr{Env: c.Env, Files: c.Files, Dir: c.Dir, Sys: attributes(c.OwnGroup)})
}

// Signal implements System.
func (Machine) Signal(pid int, sig syscall.Signal) { syscall.Kill(pid, sig) }

// SignalGroup implements System.
func (Machine) SignalGroup(pgid int, sig syscall.Signal) { syscall.Kill(-pgid, sig) }

// Ended implements System.
func (Machine) Ended(pid int, leads bool) (status syscall.WaitStatus, ended bool) {
	if leads {
		return endedUnreaped(pid)
	}
	got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
	return status, got == pid || errors.Is(err, syscall.ECHILD)
}

// Reap implements System.
func (Machine) Reap(pid int) { syscall.Wait4(pid, nil, syscall.WNOHANG, nil) }

// LeadsGroup implements System.
func (Machine) LeadsGroup(pid int) bool { return leadsGroup(pid) }

// StartTime implements System.
func (Machine) StartTime(pid int) uint64 { return proc.Start(pid) }

// Children implements System.
func (Machine) Children(pid int) []int { return proc.Children(pid) }

// Zombies implements System.
func (Machine) Zombies(pid int) []int { return proc.Zombies(pid) }

// GroupHolders implements System.
func (Machine) GroupHolders(pgid int, sockets proc.Inodes) []int {
	return proc.GroupHolders(pgid, sockets)
}

// SocketHolders implements System.
func (Machine) SocketHolders(sockets proc.Inodes) map[uint64][]proc.Holder {
	return proc.HoldersBySocket(sockets)
}

// AddressHolders implements System.
func (Machine) AddressHolders(a reuseport.Address) []proc.Holder { return a.Holders() }

// Kernel implements System.
func (Machine) Kernel() reuseport.Kernel { return reuseport.OS{} }

// NewReceiver implements System.
func (Machine) NewReceiver() (Receiver, error) { return receiver(sdnotify.NewReceiver()) }

// AdoptReceiver implements System.
func (Machine) AdoptReceiver(fd int, name string) (Receiver, error) {
	return receiver(sdnotify.AdoptReceiver(fd, name))
}

// receiver makes an interface of a receiver, a nil one after an error.
func receiver(r *sdnotify.Receiver, err error) (Receiver, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}

// FindProgram implements System.
func (Machine) FindProgram(command []string, dir string) (release.Program, error) {
	return release.Find(command, dir)
}

// ResolveDir implements System.
func (Machine) ResolveDir(dir string) (string, error) { return release.ResolveDir(dir) }

// Identify implements System.
func (Machine) Identify(path string) (file release.File, resolved string, err error) {
	if file, err = release.Identify(path); err != nil {
		return release.File{}, "", err
	}
	if resolved, err = filepath.EvalSymlinks(path); err != nil {
		resolved = path
	}
	return file, resolved, nil
}

// Exists implements System.
func (Machine) Exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Check implements System.
func (Machine) Check(ctx context.Context, env []string, checkEnv, wanted string) error {
	return release.Check(ctx, env, checkEnv, wanted)
}

// ignoredSignals are ignored during an exec. A Go program unblocks HUP, INT, TERM and QUIT when it starts, before it has
// handlers, and would die of them. A HUP that is lost does no harm, because a rollout follows. TERM and QUIT are not ignored:
// in those milliseconds they end the master, and its workers drain, which is the stop that was asked for.
var ignoredSignals = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTTIN, syscall.SIGTTOU}

// HoldSignals implements System.
func (Machine) HoldSignals(c chan<- os.Signal) (release func()) {
	runtime.LockOSThread()
	signal.Ignore(ignoredSignals...)
	signal.Reset(syscall.SIGTERM, syscall.SIGQUIT)
	unblock := blockSignals(syscall.SIGUSR1, syscall.SIGUSR2)
	return func() {
		signal.Notify(c, bootstrap.Watched...)
		unblock()
		runtime.UnlockOSThread()
	}
}

// HoldForks implements System.
func (Machine) HoldForks() (release func()) {
	syscall.ForkLock.Lock()
	return syscall.ForkLock.Unlock
}

// Inherit implements System.
func (Machine) Inherit(fd int, stays bool) error {
	flags := unix.FD_CLOEXEC
	if stays {
		flags = 0
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flags)
	return os.NewSyscallError("fcntl", err)
}

// Duplicate implements System.
func (Machine) Duplicate(fd int) (int, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD, 3)
	return dup, os.NewSyscallError("fcntl", err)
}

// Close implements System.
func (Machine) Close(fd int) { unix.Close(fd) }

// StateFile implements System.
func (Machine) StateFile(text []byte) (int, error) { return stateFile(text) }

// Execute implements System.
func (Machine) Execute(path string, args, env []string) error { return syscall.Exec(path, args, env) }
