package master

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// self is this program's executable, even when its file was replaced or removed.
func self() (string, error) { return "/proc/self/exe", nil }

// clearSignalMask unblocks every signal in the calling thread, which stays the caller's: what it executes starts with
// that mask.
func clearSignalMask() {
	runtime.LockOSThread()
	unix.PthreadSigmask(unix.SIG_SETMASK, &unix.Sigset_t{}, nil)
}
