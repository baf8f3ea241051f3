package master

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// children returns the pids of a process's children.
func children(pid int) []int { return family(pid, "") }

// zombies returns the children of a process that have ended and wait to be reaped.
func zombies(parent int) []int { return family(parent, "Z") }

func family(parent int, state string) (pids []int) {
	eachProcess(func(pid int, stat []string) {
		if stat[statParent] == strconv.Itoa(parent) && (state == "" || stat[statState] == state) {
			pids = append(pids, pid)
		}
	})
	return pids
}

// Fields of /proc/PID/stat behind the name of the command.
const (
	statState  = 0
	statParent = 1
	statGroup  = 2
	statStart  = 19
)

// eachProcess calls f with the pid of each process and the fields of its stat, of which there are at least 20.
func eachProcess(f func(pid int, stat []string)) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if stat := processStat(pid); stat != nil {
			f(pid, stat)
		}
	}
}

// processStat returns the fields of a process's stat; nil when there is no such process.
func processStat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	// pid (comm) state ppid …, and comm may contain anything.
	_, after, _ := cutLast(string(text), ") ")
	if fields := strings.Fields(after); len(fields) > statStart {
		return fields
	}
	return nil
}

// monotonicUsec is the clock by which systemd orders a reload.
func monotonicUsec() string {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return "0"
	}
	return fmt.Sprint(ts.Nano() / 1000)
}
