package master

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

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

// waitGroup waits for a command that leads a process group, and ends what it has started: while the leader is not
// reaped, the number of the group is nobody else's.
func waitGroup(cmd *exec.Cmd) error {
	for {
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	killGroup(cmd)
	return cmd.Wait()
}

// monotonicUsec is the clock by which systemd orders a reload.
func monotonicUsec() string {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return "0"
	}
	return fmt.Sprint(ts.Nano() / 1000)
}
