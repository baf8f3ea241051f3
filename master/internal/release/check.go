package release

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Check runs this program as it is on disk now in check mode: with env, and with checkEnv naming the descriptor on which it says
// that it would run. It validates its configuration and starts nothing. nil means that it gave the answer.
func Check(ctx context.Context, env []string, checkEnv, wanted string) error {
	program := Own()
	path, err := exec.LookPath(program.Path)
	if err != nil {
		return fmt.Errorf("the new program is not there: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	ctx, flooded := context.WithCancelCause(ctx)
	defer flooded(nil)
	stderr := &outputTail{tooMuch: flooded}
	cmd := exec.CommandContext(ctx, path, program.Args[1:]...)
	cmd.Args[0] = program.Args[0]
	cmd.Env = append(env, checkEnv+"=3")
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stderr = stderr
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd) }
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("the new program cannot be executed: %w", err)
	}
	err = waitGroup(cmd)
	answer := make([]byte, 256)
	r.SetReadDeadline(time.Now().Add(time.Second))
	n, _ := r.Read(answer)
	said := ""
	if text := strings.TrimSpace(stderr.String()); text != "" {
		said = ": " + text[max(0, len(text)-500):]
	}
	switch {
	case errors.Is(context.Cause(ctx), errTooMuchOutput):
		return fmt.Errorf("the new program failed the check: %w%s", errTooMuchOutput, said)
	case ctx.Err() != nil:
		return fmt.Errorf("the new program did not pass the check in time%s", said)
	case err != nil:
		return fmt.Errorf("the new program failed the check: %w%s", err, said)
	case n == 0:
		return fmt.Errorf("the new program ended without reaching master.Run%s", said)
	case string(answer[:n]) != wanted:
		return fmt.Errorf("the new program cannot take over from this version (it says %q): restart the service", answer[:n])
	}
	return nil
}
