package proc

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// HoldersBySocket returns, by inode, which other processes have the sockets. It looks at every descriptor of every process, so
// the control goroutine does not call it.
func HoldersBySocket(sockets Inodes) map[uint64][]Holder {
	out := make(map[uint64][]Holder)
	if len(sockets) == 0 {
		return out
	}
	for _, p := range all() {
		if p.PID == os.Getpid() {
			continue
		}
		for _, inode := range Held(p.PID, sockets) {
			name, _ := p.Comm()
			out[inode] = append(out[inode], Holder{ID: ID{PID: p.PID, Start: Start(p.PID)}, Name: name})
		}
	}
	return out
}

// Held returns which of the sockets a process has.
func Held(pid int, sockets Inodes) (held []uint64) {
	p, err := process(pid)
	if err != nil {
		return nil
	}
	targets, err := p.FileDescriptorTargets()
	if err != nil {
		return nil
	}
	for _, target := range targets {
		number, ok := strings.CutPrefix(target, "socket:[")
		if !ok {
			continue
		}
		inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
		if err == nil && sockets[inode] && !slices.Contains(held, inode) {
			held = append(held, inode)
		}
	}
	return held
}

// HasEnv reports whether a process was started with key=value in its environment.
func HasEnv(pid int, key, value string) bool {
	env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return bytes.Contains(append([]byte{0}, env...), []byte("\x00"+key+"="+value+"\x00"))
}
