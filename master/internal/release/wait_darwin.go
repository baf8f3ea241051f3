package release

import "os/exec"

// waitGroup waits for a command that leads a process group, and ends what it has started.
func waitGroup(cmd *exec.Cmd) error {
	defer killGroup(cmd)
	return cmd.Wait()
}
