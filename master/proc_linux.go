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
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		// pid (comm) state ppid …, and comm may contain anything.
		_, after, ok := cutLast(string(text), ") ")
		f := strings.Fields(after)
		if !ok || len(f) < 2 || f[1] != strconv.Itoa(parent) || state != "" && f[0] != state {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// monotonicUsec is the clock by which systemd orders a reload.
func monotonicUsec() string {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return "0"
	}
	return fmt.Sprint(ts.Nano() / 1000)
}
