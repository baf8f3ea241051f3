package osfile

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// LockCreate is the flag with which the file of a lock is opened, beside those for reading and writing.
const LockCreate = 0

// LockName returns the name of the file of lock n.
func LockName(base string, _ int) string { return base }

// LockOffset returns the byte of that file that is lock n.
func LockOffset(n int) int64 { return int64(n) }

// LockFile takes the open-file-description write lock on the byte at offset. It belongs to the open file and ends with
// its last descriptor and its last mapping, in whichever process.
// ErrLocked: another has it. Nobody waits in the kernel, where nothing could end the wait.
func LockFile(fd int, offset int64) error {
	for {
		lk := unix.Flock_t{Type: unix.F_WRLCK, Start: offset, Len: 1}
		switch err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lk); err {
		case unix.EINTR:
		case unix.EAGAIN, unix.EACCES:
			return ErrLocked
		default:
			return err
		}
	}
}

// IsLocked tests the lock on the byte at offset without taking it: a probe that took it would make another probe see it
// held.
func IsLocked(fd int, offset int64) (bool, error) {
	lk := unix.Flock_t{Type: unix.F_WRLCK, Start: offset, Len: 1}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lk); err != nil {
		return false, fmt.Errorf("F_OFD_GETLK: %w", err)
	}
	return lk.Type != unix.F_UNLCK, nil
}
