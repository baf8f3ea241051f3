package master

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// execEnv is set only in the small step between the start of a worker's process and its command: LISTEN_PID must be the
// worker's own pid, which nobody knows before the process is there. The step is this program, which sets it, clears the
// signal mask that the process inherited, and executes the command in the same process.
const execEnv = "ONESCRAPE_EXEC"

// early has the signals of a master that took over, from its first moment; nil in any other process.
var early chan os.Signal

// earlyAt is since when signals are not lost any more.
var earlyAt time.Time

const signalRoom = 64

func init() {
	if _, ok := os.LookupEnv(handoverEnv); ok {
		// The sooner after an upgrade's exec, the fewer signals are lost.
		early = make(chan os.Signal, signalRoom)
		signal.Notify(early, watched...)
		earlyAt = time.Now()
	}
	path, ok := os.LookupEnv(execEnv)
	if !ok {
		return
	}
	os.Unsetenv(execEnv)
	os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	clearSignalMask()
	err := syscall.Exec(path, os.Args, os.Environ())
	// ERRNO is sd_notify's word for why a service failed; the master says it in words.
	if errno, ok := err.(syscall.Errno); ok {
		if c, dialErr := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET")); dialErr == nil {
			fmt.Fprintf(c, "ERRNO=%d\nX_ONESCRAPE_EXEC=%s", int(errno), path)
			c.Close()
		}
	}
	os.Exit(127)
}
