package master

import (
	"runtime/debug"
	"time"

	commonversion "github.com/prometheus/common/version"
)

// Status is what a master is doing, as /api/v1/status answers it and as the store keeps it for the command line.
type Status struct {
	PID     int       `json:"pid"`
	Version string    `json:"version"` // of the program's main module
	Started time.Time `json:"started"` // unchanged by an upgrade in place
	Store   string    `json:"store"`
	// Addresses are where the workers listen, in the order of Config.Listen, with the port that the system chose for
	// port 0.
	Addresses []string `json:"addresses"`
	// Metrics is where the endpoint listens; "" when it is off.
	Metrics string `json:"metrics,omitempty"`
	// Ready is what /-/ready says: all slots have been ready once, at least one is, not every slot is in a crash loop, and
	// no stop has begun.
	Ready    bool   `json:"ready"`
	Steering string `json:"steering"` // "on" or "off: REASON"
	Workers  int    `json:"workers"`  // how many there should be
	// Shortage is why there are fewer slots than Workers: at the moment the system does not give the next slot what it needs.
	Shortage string `json:"shortage,omitempty"`
	// Queued is a request that waits until the current operation is over: "reload", "upgrade" or "".
	Queued  string   `json:"queued,omitempty"`
	Rollout *Rollout `json:"rollout,omitempty"`
	// Releases are what the processes were started from.
	Releases []Release `json:"releases,omitempty"`
	Slots    []Slot    `json:"slots"`
	// StoreTrouble says that Store was renamed, removed or replaced while the master had it open, or that it could not be
	// made yet; "" when it is in place.
	StoreTrouble string `json:"store_trouble,omitempty"`
	// Strangers are sockets of other processes that listen at the workers' addresses. No connection is steered to them.
	Strangers []Stranger `json:"strangers,omitempty"`
}

// Stranger is a socket of another process at one of the workers' addresses.
type Stranger struct {
	Address string   `json:"address"`
	Inode   uint64   `json:"inode"`
	Holders []Holder `json:"holders"` // empty: this user may not see them
}

// Holder is a process that has a socket.
type Holder struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
}

// Slot is one worker's place.
type Slot struct {
	Slot     int       `json:"slot"`
	PID      int       `json:"pid"`               // 0: none at the moment
	State    string    `json:"state"`             // starting ready draining backoff failed
	Started  time.Time `json:"started"`           // of the process; of the last one when there is none
	Release  int       `json:"release,omitempty"` // of Status.Releases; 0: unknown
	Restarts int       `json:"restarts"`
	// CrashLoop says that three workers of the slot in a row ended with an error, each less than a minute after READY=1.
	CrashLoop bool   `json:"crash_loop,omitempty"`
	LastExit  string `json:"last_exit,omitempty"` // how the last process of the slot ended
	Text      string `json:"text,omitempty"`      // what the worker said by STATUS=
}

// Release is a state of the workers' program, and where they were started.
type Release struct {
	Release int       `json:"release"` // counts up
	Program string    `json:"program"` // its path without links
	Changed time.Time `json:"changed"` // the file's change time
	Dir     string    `json:"dir,omitempty"`
}

// Rollout is the last rolling restart, running or over.
type Rollout struct {
	ID    int    `json:"id"`    // counts up
	Kind  string `json:"kind"`  // "reload" or "upgrade"
	State string `json:"state"` // "running", "done" or "abandoned"
	Done  int    `json:"done"`  // slots replaced
	Total int    `json:"total"` // slots to replace
	Error string `json:"error,omitempty"`
}

// The states of a slot. Starting becomes ready by READY=1, ready becomes draining by a stop, and each of them ends with
// the process: the slot then waits in backoff, or in failed after several failures in a row, and starts again.
const (
	starting = "starting"
	ready    = "ready"
	draining = "draining"
	waiting  = "backoff"
	failed   = "failed"
)

var states = [...]string{starting, ready, draining, waiting, failed}

// The states of a rollout.
const (
	running   = "running"
	done      = "done"
	abandoned = "abandoned"
)

// version is that of the program, as a release's linker flags or the build say it.
var version = func() string {
	if commonversion.Version != "" {
		return commonversion.Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}()
