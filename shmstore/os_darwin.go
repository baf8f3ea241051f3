package shmstore

import (
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What only macOS does this way.

func fileSystem(fd int) (name string, local, known bool, err error) {
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

// There is no file system in memory that every Mac has.
func memoryFS(string) bool { return false }

var bootID = sync.OnceValues(func() (id [16]byte, err error) {
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

func allocate(fd int, offset, end int64) error { return writeZeros(fd, offset, end) }

func (d *Dir) unnamed(mode uint32) (*newFile, error) { return d.hidden(mode) }

// renameNew renames within the directory and fails with EEXIST when the new name is taken.
func (d *Dir) renameNew(from, to string) error {
	return unix.RenameatxNp(d.fd(), from, d.fd(), to, unix.RENAME_EXCL)
}

// exchange makes two names of the directory change places, at one instant.
func (d *Dir) exchange(a, b string) error {
	return unix.RenameatxNp(d.fd(), a, d.fd(), b, unix.RENAME_SWAP)
}

func syncFile(fd int) error { return unix.Fsync(fd) }
