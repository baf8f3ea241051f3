package master

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// holders returns the processes that listen at the address, as far as this user may see them: the inodes of the sockets
// from /proc/net, whose they are from /proc/PID/fd. store is the path that makes a process one of ours.
func holders(network, addr, store string) (out []holder) {
	var inodes map[uint64]bool
	if network == "unix" {
		inodes = unixInodes(addr)
	} else {
		_, port, _ := cutLast(addr, ":")
		inodes = tcpInodes(port)
	}
	for _, h := range holdersOf(inodes) {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", h.pid))
		h.ours = bytes.Contains(append([]byte{0}, env...), []byte("\x00ONESCRAPE_DIR="+store+"\x00"))
		out = append(out, h)
	}
	return out
}

// socketHolders returns, by inode, which other processes have these sockets, as far as this user may see that. It looks
// at every descriptor of every process, so it is not for the control goroutine.
func socketHolders(inodes map[uint64]bool) map[uint64][]holder {
	out := make(map[uint64][]holder)
	if len(inodes) == 0 {
		return out
	}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range procs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		for _, inode := range heldSockets(pid, inodes) {
			comm, _ := os.ReadFile(dir + "/comm")
			out[inode] = append(out[inode], holder{pid: pid, start: processStart(pid), name: strings.TrimSpace(string(comm))})
		}
	}
	return out
}

// heldSockets returns which of these sockets a process has.
func heldSockets(pid int, inodes map[uint64]bool) (held []uint64) {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, fd := range fds {
		link, err := os.Readlink(dir + fd.Name())
		if err != nil {
			continue
		}
		number, ok := strings.CutPrefix(link, "socket:[")
		if !ok {
			continue
		}
		inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
		if err == nil && inodes[inode] && !slices.Contains(held, inode) {
			held = append(held, inode)
		}
	}
	return held
}

// tcpInodes returns the inodes of the sockets that listen on the port.
func tcpInodes(port string) map[uint64]bool {
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil
	}
	return listeningInodes(fmt.Sprintf(":%04X", p))
}

// listeningInodes returns the inodes of the listening TCP sockets whose local address in /proc/net ends so.
func listeningInodes(suffix string) map[uint64]bool {
	out := make(map[uint64]bool)
	for _, file := range [...]string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
			f := strings.Fields(line)
			const listen = "0A"
			if len(f) > 9 && f[3] == listen && strings.HasSuffix(f[1], suffix) {
				addInode(out, f[9])
			}
		}
	}
	return out
}

// unixInodes returns the inodes of the unix sockets at a path, or of all listening ones.
func unixInodes(path string) map[uint64]bool {
	out := make(map[uint64]bool)
	text, _ := os.ReadFile("/proc/net/unix")
	for line := range strings.Lines(string(text)) {
		// Num RefCount Protocol Flags Type St Inode Path
		f := strings.Fields(line)
		const listens = "00010000"
		if len(f) > 7 && f[7] == path || path == "" && len(f) > 6 && f[3] == listens {
			addInode(out, f[6])
		}
	}
	return out
}

func addInode(inodes map[uint64]bool, text string) {
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		inodes[n] = true
	}
}
