package master

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// self is this program's executable, even when its file was replaced or removed.
func self() (string, error) {
	const path = "/proc/self/exe"
	if _, err := os.Lstat(path); err != nil {
		return "", errors.New("/proc is not mounted: mount it (mount -t proc proc /proc)")
	}
	return path, nil
}

// monotonicUsec is the clock by which systemd orders a reload.
func monotonicUsec() string {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return "0"
	}
	return fmt.Sprint(ts.Nano() / 1000)
}
