package master

import (
	"errors"
	"slices"
	"syscall"
)

// unexecutable is the error of a command that cannot be executed. Before any worker was ready it ends the master, unless it
// is temporary.
type unexecutable struct{ error }

func (u unexecutable) Unwrap() error { return u.error }

// shortages are what a call returns for want of something that others may give back, or that somebody is just putting in its
// place.
var shortages = []syscall.Errno{syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS,
	syscall.ENOSPC, syscall.EINTR, syscall.EIO, syscall.EBUSY, syscall.ETXTBSY, syscall.ESTALE}

// temporary reports whether what failed with err may succeed later without anybody's correcting the configuration.
func temporary(err error) bool {
	return slices.ContainsFunc(shortages, func(errno syscall.Errno) bool { return errors.Is(err, errno) })
}
