package release

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
)

const (
	// keptOutput is how much of a program's output is kept: the end, which says why it failed.
	keptOutput = 4 << 10
	// maxOutput is how much a program may write during its check.
	maxOutput = 4 << 20
)

var errTooMuchOutput = fmt.Errorf("it wrote more than %d MiB to standard error", maxOutput>>20)

// outputTail keeps the end of what is written to it. When maxOutput bytes have come it calls tooMuch. One goroutine
// writes, and the others read afterwards.
type outputTail struct {
	tooMuch context.CancelCauseFunc
	tail    []byte
	written int
}

// Write implements io.Writer.
func (o *outputTail) Write(b []byte) (int, error) {
	o.written += len(b)
	if o.written > maxOutput {
		o.tooMuch(errTooMuchOutput)
	}
	o.tail = append(o.tail, b[max(0, len(b)-keptOutput):]...)
	if extra := len(o.tail) - keptOutput; extra > 0 {
		o.tail = append(o.tail[:0], o.tail[extra:]...)
	}
	return len(b), nil
}

func (o *outputTail) String() string { return string(o.tail) }

// killGroup kills a command that leads a process group, and what it has started.
func killGroup(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
