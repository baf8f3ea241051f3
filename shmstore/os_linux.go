package shmstore

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

// fileSystem names the file system of an open directory and reports whether its locks reach every process that sees it.
func fileSystem(fd int) (name string, local, known bool, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return "", false, false, err
	}
	if k, ok := fileSystems[int64(st.Type)]; ok {
		return k.name, k.local, true, nil
	}
	return fmt.Sprintf("type %#x", st.Type), true, false, nil
}

// memoryFS reports whether path lies in memory.
func memoryFS(path string) bool {
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

// bootID identifies the boot of the kernel.
var bootID = sync.OnceValues(func() (id [16]byte, err error) {
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

// allocate makes the file end bytes long and reserves the space from offset on, so that touching it never fails.
func allocate(fd int, offset, end int64) error {
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

// unnamed makes a file that has no name in the directory yet.
func (d *Dir) unnamed(mode uint32) (*newFile, error) {
	fd, err := unix.Openat(d.fd(), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, mode)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) {
		return d.hidden(mode)
	}
	if err != nil {
		return nil, fmt.Errorf("make a file in %s: %w", d.path, errFull(err))
	}
	publish := func(name string) error {
		err := unix.Linkat(fd, "", d.fd(), name, unix.AT_EMPTY_PATH)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), d.fd(), name, unix.AT_SYMLINK_FOLLOW)
		}
		if err != nil {
			return fmt.Errorf("name %s: %w", filepath.Join(d.path, name), errFull(err))
		}
		return nil
	}
	return &newFile{fd: fd, publish: publish, discard: func() { unix.Close(fd) }}, nil
}

// renameNew renames within the directory and fails with EEXIST when the new name is taken.
func (d *Dir) renameNew(from, to string) error {
	return unix.Renameat2(d.fd(), from, d.fd(), to, unix.RENAME_NOREPLACE)
}

// exchange makes two names of the directory change places, at one instant.
func (d *Dir) exchange(a, b string) error {
	return unix.Renameat2(d.fd(), a, d.fd(), b, unix.RENAME_EXCHANGE)
}

func syncFile(fd int) error { return unix.Fdatasync(fd) }
