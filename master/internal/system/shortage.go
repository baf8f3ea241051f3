package system

import (
	"errors"
	"slices"
	"syscall"
)

// shortages are what a call returns for want of something that others may give back, or that somebody is just putting in its
// place.
var shortages = []syscall.Errno{syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS,
	syscall.ENOSPC, syscall.EINTR, syscall.EIO, syscall.EBUSY, syscall.ETXTBSY, syscall.ESTALE}

// Temporary reports whether what failed with err may succeed later without anybody's correcting the configuration.
func Temporary(err error) bool {
	return slices.ContainsFunc(shortages, func(errno syscall.Errno) bool { return errors.Is(err, errno) })
}
