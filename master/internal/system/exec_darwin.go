package system

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// blockSignals ignores the signals: there is no call here that blocks them in one thread.
func blockSignals(sigs ...syscall.Signal) func() {
	for _, s := range sigs {
		signal.Ignore(s)
	}
	return func() {}
}

// stateFile returns the descriptor of a nameless file with that text, which stays open over an exec.
func stateFile(text []byte) (int, error) {
	f, err := os.CreateTemp("", "onescrape-handover-")
	if err != nil {
		return -1, err
	}
	defer f.Close()
	os.Remove(f.Name())
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		return -1, os.NewSyscallError("dup", err)
	}
	return fd, writeAll(fd, text)
}

// self returns the path of this program's executable.
func self() (string, error) { return os.Executable() }

// MonotonicMicroseconds is for systemd, which is not here.
func MonotonicMicroseconds() string { return "0" }
