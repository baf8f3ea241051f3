package master

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// holders returns the processes that listen at the address, as far as this user may see them: the inodes of the sockets
// from /proc/net, whose they are from /proc/PID/fd. store is the path that makes a process one of ours.
func holders(network, addr, store string) []holder {
	var inodes map[string]bool
	if network == "unix" {
		inodes = unixInodes(addr)
	} else {
		_, port, _ := cutLast(addr, ":")
		inodes = tcpInodes(port)
	}
	if len(inodes) == 0 {
		return nil
	}
	var out []holder
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range procs {
		fds, err := os.ReadDir(dir + "/fd")
		if err != nil {
			continue
		}
		for _, fd := range fds {
			link, err := os.Readlink(dir + "/fd/" + fd.Name())
			if err != nil || !inodes[link] {
				continue
			}
			pid, _ := strconv.Atoi(filepath.Base(dir))
			comm, _ := os.ReadFile(dir + "/comm")
			env, _ := os.ReadFile(dir + "/environ")
			out = append(out, holder{pid: pid, name: strings.TrimSpace(string(comm)),
				ours: bytes.Contains(append([]byte{0}, env...), []byte("\x00ONESCRAPE_DIR="+store+"\x00"))})
			break
		}
	}
	return out
}

// tcpInodes returns the links by which /proc/PID/fd shows the sockets that listen on the port.
func tcpInodes(port string) map[string]bool {
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil
	}
	suffix := fmt.Sprintf(":%04X", p)
	out := make(map[string]bool)
	for _, file := range [...]string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
			f := strings.Fields(line)
			const listen = "0A"
			if len(f) > 9 && f[3] == listen && strings.HasSuffix(f[1], suffix) {
				out["socket:["+f[9]+"]"] = true
			}
		}
	}
	return out
}

func unixInodes(path string) map[string]bool {
	out := make(map[string]bool)
	text, _ := os.ReadFile("/proc/net/unix")
	for line := range strings.Lines(string(text)) {
		// Num RefCount Protocol Flags Type St Inode Path
		f := strings.Fields(line)
		if len(f) > 7 && f[7] == path {
			out["socket:["+f[6]+"]"] = true
		}
	}
	return out
}
