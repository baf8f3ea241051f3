package osfile

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// There are no open-file-description locks on macOS; flock covers the whole file, so each lock has a file of its own.
const LockCreate = unix.O_CREAT

// LockName returns the name of the file of lock n.
func LockName(base string, n int) string { return fmt.Sprintf("%s.%d", base, n) }

// LockOffset returns the byte of that file that is lock n.
func LockOffset(int) int64 { return 0 }

// LockFile takes the lock. ErrLocked: another open file has it.
func LockFile(fd int, _ int64) error {
	for {
		switch err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err {
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return ErrLocked
		default:
			return err
		}
	}
}

// IsLocked has to take the lock to test it; shared, so that two that test do not see each other.
func IsLocked(fd int, _ int64) (bool, error) {
	switch err := unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); err {
	case nil:
		return false, unix.Flock(fd, unix.LOCK_UN)
	case unix.EWOULDBLOCK:
		return true, nil
	default:
		return false, fmt.Errorf("flock: %w", err)
	}
}

// LockHolder returns 0: the system does not say who holds a lock.
func LockHolder(int, int64) int { return 0 }
