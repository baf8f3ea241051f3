package main

import (
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"golang.org/x/sys/unix"
)

// The values of flags. Each says in its error what it would have taken, so that one line is enough to mend a command.

// valueFlag adds a flag with a value of a type of its own.
func valueFlag(cmd *kingpin.CmdClause, name, help string, v kingpin.Value) *kingpin.FlagClause {
	f := cmd.Flag(name, help)
	f.SetValue(named{v, name})
	return f
}

// named is a flag's value that says in its error which flag's it is, which the parser does not.
type named struct {
	kingpin.Value
	name string
}

func (n named) Set(s string) error {
	if err := n.Value.Set(s); err != nil {
		return fmt.Errorf("--%s: %w", n.name, err)
	}
	return nil
}

// workerCount is a number of workers. Its zero value stands for one a CPU, and cannot be typed.
type workerCount int

func (n *workerCount) Set(s string) error {
	v, ok := parseWorkers(s)
	if !ok {
		return fmt.Errorf("%q is no number of workers: give 1 to %d, or leave it out for one a CPU", s, maxWorkers)
	}
	*n = workerCount(v)
	return nil
}

// parseWorkers returns a number of workers, and whether it is one that can be.
func parseWorkers(s string) (int, bool) {
	v, err := strconv.Atoi(s)
	return v, err == nil && v >= 1 && v <= maxWorkers
}

func (n *workerCount) String() string {
	if *n == 0 {
		return strconv.Itoa(runtime.GOMAXPROCS(0))
	}
	return strconv.Itoa(int(*n))
}

// scaleTarget is the number of workers that there are to be, which has no default.
type scaleTarget int

func (n *scaleTarget) Set(s string) error {
	v, ok := parseWorkers(s)
	if !ok {
		return fmt.Errorf("%q is no number of workers: give 1 to %d; onescrape stop ends the service", s, maxWorkers)
	}
	*n = scaleTarget(v)
	return nil
}

func (n *scaleTarget) String() string { return strconv.Itoa(int(*n)) }

// maxWorkers is beyond what any machine has use for; it catches the typing error before it forks.
const maxWorkers = 1024

// requestCount is a number of requests.
type requestCount uint32

func (n *requestCount) Set(s string) error {
	v, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return fmt.Errorf("%q is no number of requests: give 1 to %d, or 0 for never", s, uint32(math.MaxUint32))
	}
	*n = requestCount(v)
	return nil
}

func (n *requestCount) String() string { return strconv.FormatUint(uint64(*n), 10) }

// span is a time of zero or more, in Go's and in Prometheus's units.
type span time.Duration

func (d *span) Set(s string) error {
	v, err := parseSpan(s)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no time: write it as 500ms, 25s, 2m or 24h", s)
	}
	*d = span(v)
	return nil
}

func (d *span) String() string { return time.Duration(*d).String() }

// config is the value for a Config's field, where 0 stands for a default and less than 0 for none.
func (d span) config() time.Duration {
	if d == 0 {
		return -1
	}
	return time.Duration(d)
}

// parseSpan adds the day to Go's durations, because a retention is given in days.
func parseSpan(s string) (time.Duration, error) {
	days, ok := strings.CutSuffix(s, "d")
	if !ok {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseFloat(days, 64)
	if err != nil || n*24 > math.MaxInt64/float64(time.Hour) {
		return 0, fmt.Errorf("%q is no number of days", days)
	}
	return time.Duration(n * 24 * float64(time.Hour)), nil
}

// fraction is a share of one.
type fraction float64

func (f *fraction) Set(s string) error {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0 && v < 1) {
		return fmt.Errorf("%q is no share: give at least 0 and less than 1, such as 0.1", s)
	}
	*f = fraction(v)
	return nil
}

func (f *fraction) String() string { return strconv.FormatFloat(float64(*f), 'g', -1, 64) }

// config is the value for a Config's field, as a span's is.
func (f fraction) config() float64 {
	if f == 0 {
		return -1
	}
	return float64(f)
}

// signalName is a signal by its name, with or without SIG.
type signalName struct{ unix.Signal }

func (n *signalName) Set(s string) error {
	sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG"))
	switch sig {
	case 0, unix.SIGKILL, unix.SIGSTOP:
		return fmt.Errorf("%q is no signal that a process can stop by: give TERM, QUIT, INT, USR1 or the like", s)
	}
	n.Signal = sig
	return nil
}

func (n *signalName) String() string {
	if n.Signal == 0 {
		return ""
	}
	return strings.TrimPrefix(unix.SignalName(n.Signal), "SIG")
}
