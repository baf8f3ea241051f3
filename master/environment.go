package master

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master/internal/bootstrap"
)

// ours are the variables that the master sets or that are not for its workers; every other one is passed on.
var ours = map[string]bool{
	"LISTEN_FDS": true, "LISTEN_PID": true, "LISTEN_FDNAMES": true, "LISTEN_PIDFDID": true, "NOTIFY_SOCKET": true,
	"WATCHDOG_USEC": true, "WATCHDOG_PID": true, "MAINPID": true,
	"ONESCRAPE_DIR": true, "ONESCRAPE_SLOT": true, "ONESCRAPE_LIFELINE": true, "ONESCRAPE_GRACEFUL_TIMEOUT": true,
	"ONESCRAPE_LINGER": true, "ONESCRAPE_MAX_REQUESTS": true, "ONESCRAPE_STOP_SIGNAL": true,
	bootstrap.ExecEnv: true, checkEnv: true, bootstrap.HandoverEnv: true, embedEnv: true,
}

// foreignEnv returns the environment without our variables.
func foreignEnv(environ []string) []string {
	var out []string
	for _, e := range environ {
		if key, _, _ := strings.Cut(e, "="); !ours[key] {
			out = append(out, e)
		}
	}
	return out
}

// workerEnv is what one worker must be told.
type workerEnv struct {
	exec, store, notify string
	dir                 string // "": the master's own
	slot, lifeline      int
	names               []string // of the sockets
	maxRequests         int64
}

// environ returns the environment of a worker.
func (c Config) environ(base []string, w workerEnv, limits []string) []string {
	env := foreignEnv(base)
	if w.dir != "" {
		// As a shell does after cd.
		env = append(slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, "PWD=") }), "PWD="+w.dir)
	}
	set := func(key, value string) { env = append(env, key+"="+value) }
	set(bootstrap.ExecEnv, w.exec)
	set("ONESCRAPE_DIR", w.store)
	set("ONESCRAPE_SLOT", strconv.Itoa(w.slot))
	set("ONESCRAPE_LIFELINE", strconv.Itoa(w.lifeline))
	set("ONESCRAPE_GRACEFUL_TIMEOUT", c.GracefulTimeout.String())
	set("ONESCRAPE_LINGER", c.Linger.String())
	if w.maxRequests > 0 {
		set("ONESCRAPE_MAX_REQUESTS", strconv.FormatInt(w.maxRequests, 10))
	}
	if c.StopSignal != syscall.SIGTERM {
		set("ONESCRAPE_STOP_SIGNAL", strconv.Itoa(int(c.stopSignal())))
	}
	set("NOTIFY_SOCKET", w.notify)
	if c.Watchdog > 0 {
		set("WATCHDOG_USEC", strconv.FormatInt(int64(c.Watchdog/time.Microsecond), 10))
	}
	set("LISTEN_FDS", strconv.Itoa(len(w.names)))
	set("LISTEN_FDNAMES", strings.Join(w.names, ":"))
	return append(env, limits...)
}

// limits returns each worker's share of the CPUs, and of the memory where there is a limit, as Go's runtime takes
// them. A variable that is set stays as it is. A tenth of the memory is left for what the runtime does not count.
func limits(environ []string, cpus, workers int, memory int64) []string {
	set := make(map[string]bool)
	for _, e := range environ {
		key, _, _ := strings.Cut(e, "=")
		set[key] = true
	}
	var out []string
	if !set["GOMAXPROCS"] {
		out = append(out, fmt.Sprintf("GOMAXPROCS=%d", (cpus+workers-1)/workers))
	}
	if !set["GOMEMLIMIT"] && memory > 0 && memory < math.MaxInt64/2 {
		out = append(out, fmt.Sprintf("GOMEMLIMIT=%d", memory/10*9/int64(workers)))
	}
	return out
}

// devNull is the workers' standard input.
func devNull() (*os.File, error) { return os.Open(os.DevNull) }
