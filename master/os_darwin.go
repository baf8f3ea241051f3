package master

import (
	"os"
	"os/exec"
)

// self is this program's executable.
func self() (string, error) { return os.Executable() }

// waitGroup waits for a command that leads a process group, and ends what it has started.
func waitGroup(cmd *exec.Cmd) error {
	defer killGroup(cmd)
	return cmd.Wait()
}

// monotonicUsec is for systemd, which is not here.
func monotonicUsec() string { return "0" }
