package proc

import (
	"os"
	"slices"
	"strings"

	"github.com/prometheus/procfs"
)

// all returns every process; none where /proc is not mounted.
func all() procfs.Procs {
	fs, err := procfs.NewFS(procfs.DefaultMountPoint)
	if err != nil {
		return nil
	}
	procs, _ := fs.AllProcs()
	return procs
}

// process returns a process; an error when there is none.
func process(pid int) (procfs.Proc, error) {
	fs, err := procfs.NewFS(procfs.DefaultMountPoint)
	if err != nil {
		return procfs.Proc{}, err
	}
	return fs.Proc(pid)
}

// BootID names the time since the machine was started: inodes of sockets and pids mean nothing beyond it. "": unknown.
var BootID = func() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}()

// stat returns the kernel's numbers about a process; false when there is none.
func stat(pid int) (procfs.ProcStat, bool) {
	p, err := process(pid)
	if err != nil {
		return procfs.ProcStat{}, false
	}
	s, err := p.Stat()
	return s, err == nil
}

const zombie = "Z"

// Start returns when a process started, in the kernel's ticks; 0 when there is no such process.
func Start(pid int) uint64 {
	s, _ := stat(pid)
	return s.Starttime
}

// Alive reports whether there is such a process and it has not ended.
func Alive(pid int) bool {
	s, ok := stat(pid)
	return ok && s.State != zombie
}

// matching returns the pids of the processes whose numbers match.
func matching(match func(procfs.ProcStat) bool) (pids []int) {
	for _, p := range all() {
		if s, err := p.Stat(); err == nil && match(s) {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

// Children returns the pids of a process's children.
func Children(pid int) []int {
	return matching(func(s procfs.ProcStat) bool { return s.PPID == pid })
}

// Zombies returns the children of a process that have ended and wait to be reaped.
func Zombies(pid int) []int {
	return matching(func(s procfs.ProcStat) bool { return s.PPID == pid && s.State == zombie })
}

// GroupHolders returns the processes of a process group that have one of the sockets. It looks at all processes, so the control
// goroutine does not call it.
func GroupHolders(pgid int, sockets Inodes) []int {
	pids := matching(func(s procfs.ProcStat) bool { return s.PGRP == pgid && s.State != zombie })
	pids = slices.DeleteFunc(pids, func(pid int) bool { return len(Held(pid, sockets)) == 0 })
	slices.Sort(pids)
	return pids
}

// OwnUser reports whether a process is this user's by its real, effective, saved and file system ids.
func OwnUser(pid int) bool {
	p, err := process(pid)
	if err != nil {
		return false
	}
	status, err := p.NewStatus()
	if err != nil {
		return false
	}
	for _, id := range status.UIDs {
		if id != uint64(os.Geteuid()) {
			return false
		}
	}
	return true
}
