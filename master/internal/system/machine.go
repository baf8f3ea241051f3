package system

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/release"
	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/worker/sdnotify"
)

// Machine is the real System.
type Machine struct{}

// Now implements System.
func (Machine) Now() time.Time { return time.Now() }

// Random implements System.
func (Machine) Random() float64 { return rand.Float64() }

// Go implements System.
func (Machine) Go(f func()) { go f() }

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

// OpenGroup implements System.
func (Machine) OpenGroup(a reuseport.Address) (Group, error) { return group(reuseport.Open(a)) }

// InheritGroup implements System.
func (Machine) InheritGroup(name string, fd int) (Group, error) {
	return group(reuseport.Inherited(name, fd))
}

// AdoptGroup implements System.
func (Machine) AdoptGroup(s reuseport.State) (Group, error) { return group(reuseport.Adopt(s)) }

// group makes an interface of a group, a nil one after an error.
func group(g *reuseport.Group, err error) (Group, error) {
	if err != nil {
		return nil, err
	}
	return g, nil
}

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
