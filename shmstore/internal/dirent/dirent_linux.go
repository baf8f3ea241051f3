// Package dirent lists directories with the inodes of their entries, which the os package does not tell without a stat of
// each.
package dirent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// The fields of a linux_dirent64.
const (
	inodeAt  = 0
	lengthAt = 16
	nameAt   = 19
)

// Each calls do with the name and inode of each entry of an open directory, from its position on. The name is valid
// during the call only. Entries may come twice while the directory changes.
func Each(dir *os.File, do func(name []byte, inode uint64)) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Getdents(int(dir.Fd()), buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n <= 0 || err != nil {
			return os.NewSyscallError("getdents", err)
		}
		for b := buf[:n]; len(b) > nameAt; {
			length := int(binary.NativeEndian.Uint16(b[lengthAt:]))
			name, _, _ := bytes.Cut(b[nameAt:length], []byte{0})
			do(name, binary.NativeEndian.Uint64(b[inodeAt:]))
			b = b[length:]
		}
	}
}
