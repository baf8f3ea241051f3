package osfile

import (
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What only macOS does this way.

// FileSystem names the file system of an open directory and reports whether its locks reach every process that sees it.
func FileSystem(fd int) (name string, local, known bool, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return "", false, false, err
	}
	name = unix.ByteSliceToString(st.Fstypename[:])
	local = st.Flags&unix.MNT_LOCAL != 0
	return name, local, !local || name == "apfs" || name == "hfs", nil
}

// There are no time namespaces.
func timeNamespaceOffset() time.Duration { return 0 }

// MemoryFS returns false: there is no file system in memory that every Mac has.
func MemoryFS(string) bool { return false }

// BootID identifies the boot of the kernel.
var BootID = sync.OnceValues(func() (id [16]byte, err error) {
	s, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return id, fmt.Errorf("shmstore: boot id: %w", err)
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(raw) != len(id) {
		return id, fmt.Errorf("shmstore: boot id: %q is none", s)
	}
	return [16]byte(raw), nil
})

// Allocate makes the file end bytes long and reserves the space from offset on.
func Allocate(fd int, offset, end int64) error { return writeZeros(fd, offset, end) }

// Unnamed returns ErrNoUnnamed.
func Unnamed(int, uint32) (int, func(string) error, error) { return -1, nil, ErrNoUnnamed }

// RenameNew renames within the directory and fails with EEXIST when the new name is taken.
func RenameNew(dir int, from, to string) error {
	return unix.RenameatxNp(dir, from, dir, to, unix.RENAME_EXCL)
}

// Exchange makes two names of the directory change places, at one instant.
func Exchange(dir int, a, b string) error {
	return unix.RenameatxNp(dir, a, dir, b, unix.RENAME_SWAP)
}

// SyncFile has the file written to its disk.
func SyncFile(fd int) error { return unix.Fsync(fd) }
