package foreign

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// processes remembers, for one look at a directory, which processes there are.
type processes struct {
	started map[int]time.Time // zero: there is none
	booted  time.Time
}

func newProcesses() *processes {
	p := &processes{started: map[int]time.Time{}}
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) == nil {
		p.booted = time.Now().Add(-time.Duration(ts.Nano()))
	}
	return p
}

// mayHave reports whether there is a process with the pid that the file has in its name, which started before the file
// was changed last; starts are rounded down, to hundredths of seconds. It decides only which files are mapped and for
// which a lease is asked.
func (p *processes) mayHave(kind *Kind, st *unix.Stat_t) bool {
	if kind.PID == 0 {
		return true
	}
	started, known := p.started[kind.PID]
	if !known {
		started = p.start(kind.PID)
		p.started[kind.PID] = started
	}
	return !started.IsZero() && started.Before(time.Unix(0, st.Mtim.Nano()))
}

// ticks are the units of times in /proc, on every architecture.
const ticks = 100

// Fields of /proc/PID/stat behind the name, which is in brackets and may hold anything.
const (
	statState = 0
	statStart = 19
)

// start returns when a process started, the zero time when there is none or only what its parent has not reaped.
func (p *processes) start(pid int) time.Time {
	if unix.Kill(pid, 0) == unix.ESRCH {
		return time.Time{}
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return time.Time{}
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if err != nil || len(fields) <= statStart {
		// It cannot be told, and a process that may live is one that lives.
		return time.Unix(0, 1)
	}
	if state := fields[statState][0]; state == 'Z' || state == 'X' {
		return time.Time{}
	}
	n, err := strconv.ParseInt(string(fields[statStart]), 10, 64)
	if err != nil {
		return time.Unix(0, 1)
	}
	return p.booted.Add(time.Duration(n) * (time.Second / ticks))
}
