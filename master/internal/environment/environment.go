// Package environment makes the environment variables of workers and of the programs that a master executes.
package environment

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master/internal/bootstrap"
)

const (
	// Check names the descriptor on which a program that is only checked says that it would run.
	Check = "ONESCRAPE_CHECK"
	// Embed has the pid of the process that called master.Embed, for its children.
	Embed = "ONESCRAPE_EMBED"
)

// ours are the variables that the master sets or that are not for its workers; every other one is passed on.
var ours = map[string]bool{
	"LISTEN_FDS": true, "LISTEN_PID": true, "LISTEN_FDNAMES": true, "LISTEN_PIDFDID": true, "NOTIFY_SOCKET": true,
	"WATCHDOG_USEC": true, "WATCHDOG_PID": true, "MAINPID": true,
	"ONESCRAPE_DIR": true, "ONESCRAPE_SLOT": true, "ONESCRAPE_LIFELINE": true, "ONESCRAPE_GRACEFUL_TIMEOUT": true,
	"ONESCRAPE_LINGER": true, "ONESCRAPE_MAX_REQUESTS": true, "ONESCRAPE_STOP_SIGNAL": true,
	bootstrap.ExecEnv: true, Check: true, bootstrap.HandoverEnv: true, Embed: true,
}

// foreign returns the environment without our variables.
func foreign(environ []string) []string {
	var out []string
	for _, e := range environ {
		if key, _, _ := strings.Cut(e, "="); !ours[key] {
			out = append(out, e)
		}
	}
	return out
}

// Worker is what one worker must be told.
type Worker struct {
	Exec        string // the path of its command
	Dir         string // where it starts; "": where the master is
	Store       string // the directory of the store
	Notify      string // the name of its notify socket
	Slot        int
	Lifeline    int      // the descriptor
	Names       []string // of the sockets
	MaxRequests int64    // 0: any number
	Settings
}

// Settings are the same for all workers.
type Settings struct {
	GracefulTimeout, Linger time.Duration
	Watchdog                time.Duration  // 0: none
	StopSignal              syscall.Signal // what they understand as a graceful stop
}

// Of returns the environment of a worker, from that of the master and the worker's share of the machine.
func Of(w Worker, base, limits []string) []string {
	env := foreign(base)
	if w.Dir != "" {
		// As a shell does after cd.
		env = append(slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, "PWD=") }), "PWD="+w.Dir)
	}
	set := func(key, value string) { env = append(env, key+"="+value) }
	set(bootstrap.ExecEnv, w.Exec)
	set("ONESCRAPE_DIR", w.Store)
	set("ONESCRAPE_SLOT", strconv.Itoa(w.Slot))
	set("ONESCRAPE_LIFELINE", strconv.Itoa(w.Lifeline))
	set("ONESCRAPE_GRACEFUL_TIMEOUT", w.GracefulTimeout.String())
	set("ONESCRAPE_LINGER", w.Linger.String())
	if w.MaxRequests > 0 {
		set("ONESCRAPE_MAX_REQUESTS", strconv.FormatInt(w.MaxRequests, 10))
	}
	if w.StopSignal != syscall.SIGTERM {
		set("ONESCRAPE_STOP_SIGNAL", strconv.Itoa(int(w.StopSignal)))
	}
	set("NOTIFY_SOCKET", w.Notify)
	if w.Watchdog > 0 {
		set("WATCHDOG_USEC", strconv.FormatInt(int64(w.Watchdog/time.Microsecond), 10))
	}
	set("LISTEN_FDS", strconv.Itoa(len(w.Names)))
	set("LISTEN_FDNAMES", strings.Join(w.Names, ":"))
	return append(env, limits...)
}

// Limits returns each worker's share of the CPUs, and of the memory where there is a limit, as Go's runtime takes
// them. A variable that is set stays as it is. A tenth of the memory is left for what the runtime does not count.
func Limits(environ []string, cpus, workers int, memory int64) []string {
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

// Master returns the environment of a program that becomes the master in this process. It does not name the store: a
// master writes no metrics, and its metrics would open a file in the store before Run is called.
func Master(base []string) (out []string) {
	for _, e := range base {
		key, _, _ := strings.Cut(e, "=")
		if key == "NOTIFY_SOCKET" || key == "WATCHDOG_USEC" || key == "WATCHDOG_PID" || !ours[key] {
			out = append(out, e)
		}
	}
	return out
}
