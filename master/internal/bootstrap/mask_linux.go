package bootstrap

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// clearSignalMask unblocks every signal in the calling thread, which stays the caller's: what it executes starts with
// that mask.
func clearSignalMask() {
	runtime.LockOSThread()
	unix.PthreadSigmask(unix.SIG_SETMASK, &unix.Sigset_t{}, nil)
}
