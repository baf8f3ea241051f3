package shmstore

import "golang.org/x/sys/unix"

func mountTmpfs(path, options string) error { return unix.Mount("tmpfs", path, "tmpfs", 0, options) }

func unmount(path string) error { return unix.Unmount(path, unix.MNT_DETACH) }

// unlockFile gives up the lock that says that a file's process lives.
func unlockFile(fd int) error {
	lk := unix.Flock_t{Type: unix.F_UNLCK, Start: 0, Len: 1}
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lk)
}
