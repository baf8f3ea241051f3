package osfile

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What only Linux does this way.

var fileSystems = map[int64]struct {
	name  string
	local bool
}{
	unix.TMPFS_MAGIC:           {"tmpfs", true},
	unix.RAMFS_MAGIC:           {"ramfs", true},
	unix.EXT4_SUPER_MAGIC:      {"ext4", true},
	unix.XFS_SUPER_MAGIC:       {"xfs", true},
	unix.BTRFS_SUPER_MAGIC:     {"btrfs", true},
	unix.OVERLAYFS_SUPER_MAGIC: {"overlay", true},
	unix.F2FS_SUPER_MAGIC:      {"f2fs", true},
	unix.NFS_SUPER_MAGIC:       {"nfs", false},
	unix.SMB_SUPER_MAGIC:       {"smb", false},
	unix.SMB2_SUPER_MAGIC:      {"smb2", false},
	unix.CIFS_SUPER_MAGIC:      {"cifs", false},
	unix.CEPH_SUPER_MAGIC:      {"ceph", false},
	unix.CODA_SUPER_MAGIC:      {"coda", false},
	unix.NCP_SUPER_MAGIC:       {"ncp", false},
	unix.V9FS_MAGIC:            {"9p", false},
	unix.AFS_SUPER_MAGIC:       {"afs", false},
	unix.FUSE_SUPER_MAGIC:      {"fuse", false},
	0x0bd00bd0:                 {"lustre", false},
	0x01161970:                 {"gfs2", false},
}

// FileSystem names the file system of an open directory and reports whether its locks reach every process that sees it.
func FileSystem(fd int) (name string, local, known bool, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return "", false, false, err
	}
	if k, ok := fileSystems[int64(st.Type)]; ok {
		return k.name, k.local, true, nil
	}
	return fmt.Sprintf("type %#x", st.Type), true, false, nil
}

// MemoryFS reports whether path lies in memory.
func MemoryFS(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && (st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC)
}

// timeNamespaceOffset returns what the time namespace of this process adds to CLOCK_MONOTONIC. A process stays in the
// namespace that it has been started in.
func timeNamespaceOffset() time.Duration {
	// Each line is a clock, seconds and nanoseconds. Kernels without time namespaces have no such file.
	text, err := os.ReadFile("/proc/self/timens_offsets")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var clock string
		var seconds, nanoseconds int64
		if n, _ := fmt.Sscan(line, &clock, &seconds, &nanoseconds); n == 3 && clock == "monotonic" {
			return time.Duration(seconds)*time.Second + time.Duration(nanoseconds)
		}
	}
	return 0
}

// BootID identifies the boot of the kernel.
var BootID = sync.OnceValues(func() (id [16]byte, err error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id, fmt.Errorf("shmstore: boot id: %w%s", err, procHelp())
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(b)), "-", ""))
	if err != nil || len(raw) != len(id) {
		return id, fmt.Errorf("shmstore: boot id: %q is none", b)
	}
	return [16]byte(raw), nil
})

// procHelp says what to do when a file of /proc cannot be read because /proc is not mounted; "" when it is.
func procHelp() string {
	var st unix.Statfs_t
	if unix.Statfs("/proc", &st) == nil && st.Type == unix.PROC_SUPER_MAGIC {
		return ""
	}
	return ": /proc is not mounted: mount it (mount -t proc proc /proc)"
}

// Allocate makes the file end bytes long and reserves the space from offset on, so that touching it never fails.
func Allocate(fd int, offset, end int64) error {
	for {
		err := unix.Fallocate(fd, 0, offset, end-offset)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP):
			return writeZeros(fd, offset, end)
		default:
			return err
		}
	}
}

// Unnamed makes a file that has no name in the directory yet, and publish gives it one. ErrNoUnnamed: the file system has no such
// files.
func Unnamed(dir int, mode uint32) (fd int, publish func(name string) error, err error) {
	fd, err = unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, mode)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) {
		return -1, nil, ErrNoUnnamed
	}
	if err != nil {
		return -1, nil, err
	}
	publish = func(name string) error {
		err := unix.Linkat(fd, "", dir, name, unix.AT_EMPTY_PATH)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), dir, name, unix.AT_SYMLINK_FOLLOW)
		}
		return err
	}
	return fd, publish, nil
}

// RenameNew renames within the directory and fails with EEXIST when the new name is taken.
func RenameNew(dir int, from, to string) error {
	return unix.Renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE)
}

// Exchange makes two names of the directory change places, at one instant.
func Exchange(dir int, a, b string) error {
	return unix.Renameat2(dir, a, dir, b, unix.RENAME_EXCHANGE)
}

// SyncFile has the file written to its disk.
func SyncFile(fd int) error { return unix.Fdatasync(fd) }
