package system

import (
	"errors"
	"fmt"
	"os"
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

// self returns the path of this program's executable, even when its file was replaced or removed.
func self() (string, error) {
	const path = "/proc/self/exe"
	if _, err := os.Lstat(path); err != nil {
		return "", errors.New("/proc is not mounted: mount it (mount -t proc proc /proc)")
	}
	return path, nil
}

// MonotonicMicroseconds returns the clock by which systemd orders a reload.
func MonotonicMicroseconds() string {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return "0"
	}
	return fmt.Sprint(ts.Nano() / 1000)
}
