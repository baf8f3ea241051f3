package proc

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// ID names a process for as long as the machine runs: its pid and when it started, in the kernel's ticks.
type ID struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

// Holder is a process that has a socket.
type Holder struct {
	ID
	Name string // of the command, as the kernel keeps it
}

// Inodes is a set of sockets, each named by its inode.
type Inodes map[uint64]bool

// Holders returns the processes that have one of the sockets, in the order of their pids. It looks at every descriptor of
// every process, so the control goroutine does not call it.
func Holders(sockets Inodes) (out []Holder) {
	seen := make(map[int]bool)
	for _, holders := range HoldersBySocket(sockets) {
		for _, h := range holders {
			if !seen[h.PID] {
				seen[h.PID] = true
				out = append(out, h)
			}
		}
	}
	slices.SortFunc(out, func(a, b Holder) int { return cmp.Compare(a.PID, b.PID) })
	return out
}

// Text names the holders in an error or a log line.
func Text(holders []Holder) string {
	if len(holders) == 0 {
		return "another process"
	}
	var names []string
	for _, h := range holders {
		names = append(names, fmt.Sprintf("pid %d (%s)", h.PID, h.Name))
	}
	return strings.Join(names, ", ")
}
