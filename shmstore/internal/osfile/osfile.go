package osfile

import (
	"errors"

	"golang.org/x/sys/unix"
)

var (
	ErrLocked    = errors.New("locked by another open file")
	ErrNoUnnamed = errors.New("no files without a name here")
)

// writeZeros reserves space where the system has no call for it.
func writeZeros(fd int, offset, end int64) error {
	zeros := make([]byte, 64<<10)
	for offset < end {
		n, err := unix.Pwrite(fd, zeros[:min(int64(len(zeros)), end-offset)], offset)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		offset += int64(n)
	}
	return nil
}
