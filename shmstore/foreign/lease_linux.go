package foreign

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// leases reports whether the system has leases.
const leases = true

// errLeased: somebody else has the file open or mapped.
var errLeased = errors.New("somebody has it open")

// lease takes a write lease on a file and gives it up again. It is granted only when no other open file, and no mapping, in
// whichever process, is of the same inode.
//
// It is held for some microseconds. A process that opens the file meanwhile waits in open(2), and this process gets SIGIO,
// which the Go runtime handles and nobody asked for.
func lease(file *os.File) error {
	for {
		_, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
		switch {
		case err == nil:
			_, err = unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
			return err
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return errLeased
		default:
			return err
		}
	}
}
