package osfile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// LockHolder returns the pid of a process that holds the lock on the byte at offset of an open file; 0 if there is none, or
// none that this process may look at. F_OFD_GETLK names no process, because the lock belongs to an open file, which several
// may have. But each says in /proc what locks its open files hold.
func LockHolder(fd int, offset int64) int {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	// A line is "lock:\t1: OFDLCK  ADVISORY  WRITE -1 00:1b:1234 1 1": device and inode of the file, first and last byte.
	end := fmt.Appendf(nil, "%02x:%02x:%d %d %d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)), st.Ino, offset, offset)
	processes, _ := os.ReadDir("/proc")
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		path := filepath.Join("/proc", p.Name(), "fdinfo")
		files, _ := os.ReadDir(path)
		for _, f := range files {
			info, _ := os.ReadFile(filepath.Join(path, f.Name()))
			for line := range bytes.Lines(info) {
				if bytes.HasPrefix(line, []byte("lock:")) && bytes.HasSuffix(bytes.TrimSpace(line), end) {
					return pid
				}
			}
		}
	}
	return 0
}
