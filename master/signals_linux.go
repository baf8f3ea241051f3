package master

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// blockSignals blocks signals in the calling thread, which must be locked; a program that it executes begins with them
// blocked, and they wait. The function returned undoes it.
func blockSignals(sigs ...syscall.Signal) func() {
	var set, old unix.Sigset_t
	for _, s := range sigs {
		set.Val[(int(s)-1)/64] |= 1 << ((int(s) - 1) % 64)
	}
	unix.PthreadSigmask(unix.SIG_BLOCK, &set, &old)
	return func() { unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }
}

// stateFile returns the descriptor of an anonymous file with that text, which stays open over an exec.
func stateFile(text []byte) (int, error) {
	fd, err := unix.MemfdCreate("onescrape-handover", 0)
	if err != nil {
		return -1, err
	}
	return fd, writeAll(fd, text)
}
