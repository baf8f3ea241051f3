package aggregate

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A process of the tests that stops itself in the middle of a fold.
const stoppedVariable = "AGGREGATE_TEST_STOPPED"

func init() {
	dir := os.Getenv(stoppedVariable)
	if dir == "" {
		return
	}
	s, err := Open(dir, Options{})
	if err != nil {
		panic(err)
	}
	s.foldStep = func(step string) {
		if step == "merge" {
			syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		}
	}
	if _, err := s.Fold(context.Background()); err != nil {
		panic(err)
	}
	os.Exit(0)
}

// stoppedFolder returns a process that has stopped in the middle of a fold.
func stoppedFolder(t *testing.T, dir string) *os.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), stoppedVariable+"="+dir)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	var status unix.WaitStatus
	_, err := unix.Wait4(cmd.Process.Pid, &status, unix.WUNTRACED, nil)
	require.NoError(t, err)
	require.True(t, status.Stopped(), "%#x", status)
	return cmd.Process
}

// While a stopped process holds the lock of the fold, scrapes go on, the log names it once, a metric says for how long, and
// both a context and Close end the wait.
func TestStoppedProcessThatHoldsTheFoldLock(t *testing.T) {
	dir := newDir(t)
	leave(t, dir, 0, action{Do: "add", Family: counterFamily("c_total"), V: 7}, ready)
	holder := stoppedFolder(t, dir)
	var log logLines
	s := openStore(t, dir, Options{Logger: log.logger()})

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	require.Eventually(t, func() bool {
		return len(log.about("holds the lock of the fold")) > 0 &&
			!strings.HasSuffix(text(t, s, nameBlocked), " 0\n")
	}, 30*time.Second, 10*time.Millisecond)
	lines := log.about("holds the lock of the fold")
	require.Len(t, lines, 1)
	assert.Contains(t, lines[0], fmt.Sprint("pid=", holder.Pid))
	assert.Equal(t, "c_total 7\n", text(t, s))

	// One more waits for its turn in this process.
	other, endOther := context.WithCancel(t.Context())
	turn := make(chan error, 1)
	go func() {
		_, err := s.Fold(other)
		turn <- err
	}()
	endOther()
	require.ErrorIs(t, <-turn, context.Canceled)

	cancel()
	require.NoError(t, <-ended)
	assert.Equal(t, nameBlocked+" 0\n", text(t, s, nameBlocked))

	closed := openStore(t, dir, Options{})
	go func() {
		_, err := closed.Fold(context.Background())
		ended <- err
	}()
	require.Eventually(t, func() bool { return closed.waiting.Load() > 0 }, 30*time.Second, time.Millisecond)
	require.NoError(t, closed.Close())
	require.ErrorIs(t, <-ended, errClosed)

	require.NoError(t, holder.Signal(syscall.SIGCONT))
	require.Eventually(t, func() bool {
		mustFold(t, s)
		return text(t, s, nameFiles) == nameFiles+"{state=\"dead\"} 0\n"+nameFiles+"{state=\"live\"} 0\n"
	}, 30*time.Second, 10*time.Millisecond)
	assert.Equal(t, "c_total 7\n", text(t, s))
	names, err := filepath.Glob(filepath.Join(dir, "*.shm"))
	require.NoError(t, err)
	assert.Empty(t, names)
}
