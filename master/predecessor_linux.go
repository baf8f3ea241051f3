package master

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// bootID names the time since the machine was started: inodes of sockets and pids mean nothing beyond it.
var bootID = func() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}()

// processStart returns when a process started, in the kernel's ticks; 0 when there is none.
func processStart(pid int) uint64 {
	stat := processStat(pid)
	if stat == nil {
		return 0
	}
	n, _ := strconv.ParseUint(stat[statStart], 10, 64)
	return n
}

// ownUser reports whether a process is this user's by its real, effective and saved ids.
func ownUser(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		ids, ok := strings.CutPrefix(line, "Uid:")
		if !ok {
			continue
		}
		for _, id := range strings.Fields(ids) {
			if id != strconv.Itoa(os.Geteuid()) {
				return false
			}
		}
		return true
	}
	return false
}

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

// stillListening returns those of the inodes that are listening sockets. The others are gone, and another socket may have
// got the number.
func stillListening(inodes []uint64) map[uint64]bool {
	listening := listeningInodes("")
	for inode := range unixInodes("") {
		listening[inode] = true
	}
	out := make(map[uint64]bool)
	for _, inode := range inodes {
		if listening[inode] {
			out[inode] = true
		}
	}
	return out
}
