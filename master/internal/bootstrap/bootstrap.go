// Package bootstrap is what a process of the master must do before anything else. Go initializes packages in the order of
// their import paths as soon as what they import is ready; this one imports next to nothing, so that its turn comes
// before most of a program has been initialized.
//
// It does two things, each asked for by a variable that the master sets: the step between the start of a worker's
// process and its command, and listening to the signals after an upgrade's exec.
package bootstrap

import (
	"errors"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/worker/sigpipe"
)

const (
	// ExecEnv has the path of a worker's command, in the step before that is executed: LISTEN_PID must be the worker's own
	// pid, which nobody knows before the process is there. The step is the master's own program, which sets it, clears the
	// signal mask that the process inherited, and executes the command in the same process.
	ExecEnv = "ONESCRAPE_EXEC"
	// HandoverEnv names the descriptor of what a master leaves to the program that it executes in its own place.
	HandoverEnv = "ONESCRAPE_HANDOVER"
)

// Watched are the signals that a master acts on.
var Watched = []os.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTTIN, syscall.SIGTTOU,
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT}

// Room is how many signals may wait for a master that is busy.
const Room = 64

var (
	// Signals has the Watched ones of a master that took over, from its first moment; nil in any other process.
	Signals chan os.Signal
	// Since is from when on none was lost any more.
	Since time.Time
)

func init() {
	if _, ok := os.LookupEnv(HandoverEnv); ok {
		sigpipe.Survive() // what the program logs before it calls Run must not end it either
		Signals = make(chan os.Signal, Room)
		signal.Notify(Signals, Watched...)
		Since = time.Now()
	}
	if path, ok := os.LookupEnv(ExecEnv); ok {
		step(path)
	}
}

// step executes a worker's command in this process; it does not return.
func step(path string) {
	os.Unsetenv(ExecEnv)
	os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	clearSignalMask()
	err := syscall.Exec(path, os.Args, os.Environ())
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		// ERRNO is sd_notify's word for why a service failed; the master says it in words.
		notify("ERRNO=" + strconv.Itoa(int(errno)) + "\nX_ONESCRAPE_EXEC=" + path)
	}
	os.Exit(127)
}

func notify(text string) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return
	}
	unix.Sendto(fd, []byte(text), 0, &unix.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")})
	unix.Close(fd)
}
