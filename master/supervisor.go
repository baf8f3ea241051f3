package master

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/master/internal/endpoint"
	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/release"
	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/worker/sdnotify"
)

// supervisor is a master at work. One goroutine, that of run, owns every field without another word beside it; others
// send to its channels and read the published status.
type supervisor struct {
	cfg       Config
	log       *slog.Logger
	environ   []string      // what the workers inherit
	store     *shmstore.Dir // nil while there is no space for it
	storePath string
	lock      *shmstore.Lock // nil when store is
	lifeline  lifeline
	manager   *sdnotify.Notifier // systemd as a rule; nil: none
	endpoint  *endpoint.Endpoint
	counters  *counters                     // has its own lock
	merged    *aggregate.Store              // nil when there is no store
	scrape    atomic.Pointer[http.Handler]  // answers with merged and the counters
	folding   func() (over <-chan struct{}) // ends the folding of the store; nil when there is none

	groups           []*reuseport.Group
	slots            []*slot
	processes        map[int]*process   // by pid, until they are gone
	remnants         map[int]*remnant   // by the pid of the group's leader
	target           int                // how many slots there are to be
	removedAddresses []*reuseport.Group // addresses that the configuration no longer has
	epoch            int                // counts upgrades in place
	closingSockets   []*parkedSlot      // slots that are no more and whose sockets could not be closed yet
	unparking        bool               // who holds the sockets of parked slots is being looked up
	strangers        strangers
	storeWatch       storeWatch

	predecessor *possessions // of the last master on this store; nil: unknown
	started     time.Time

	messages chan message
	signals  chan os.Signal
	finished chan func() // what work in the background has left to do, see background

	op      operation     // what is being done to the slots, one thing at a time
	reload  bool          // a HUP waits
	upgrade bool          // a USR2 waits
	checked chan struct{} // has room for one: the check of an upgrade is over
	rollout *Rollout

	dir      string // where workers start; "": where the master is
	releases release.List

	notifies     bool      // a worker of this command has said READY=1
	allReadyOnce bool      // all slots have been ready once
	anyReadyOnce bool      // some worker has been ready once
	complaint    string    // how workers ended before they were ready, when that was logged last
	refused      error     // why the command cannot be executed
	growAt       time.Time // of the next slot, where one could not be opened
	growTries    int       // how often it could not, in a row
	shortage     string    // why

	phase   phase
	termAt  time.Time // of the TERM that began the stop
	delayed time.Time // when the delay before the stop is over
	quickAt time.Time // when what was told to stop at once is killed
	ending  *halting  // of a stop, when no worker is left

	wakeAt     time.Time // of the next step
	steered    []bool    // by slot, what the attached programs are for; nil: unknown
	steering   string
	lastStatus Status                 // what was published last
	published  atomic.Pointer[Status] // read by the endpoint
	lastState  string                 // to the manager
	lastText   string
	beatAt     time.Time // of the next WATCHDOG=1 to the manager
	orphans    *orphans
}

// phase is how far a stop has come.
type phase int

const (
	serving  phase = iota
	delaying       // TERM came; the shutdown delay runs
	stopping       // the workers drain
	quick          // the workers stop at once
)

// operation is something that takes a while: a rolling restart, a replacement, a slot that is given up, an upgrade.
type operation interface {
	// step does what can be done now and reports whether the operation is over. It is called after every event.
	step(s *supervisor, now time.Time) bool
	// abort ends it because the master stops.
	abort(s *supervisor)
}

// lifeline is a pipe whose writing end only the master has: when it is closed, the master has gone.
type lifeline struct{ read, write int }

func newLifeline() (lifeline, error) {
	var fds [2]int
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := syscall.Pipe(fds[:]); err != nil {
		return lifeline{}, os.NewSyscallError("pipe", err)
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	return lifeline{read: fds[0], write: fds[1]}, nil
}

// stopping reports whether no more processes are started.
func (s *supervisor) stopping() bool { return s.phase >= stopping }

// limits returns the workers' shares of the machine.
func (s *supervisor) limits() []string {
	return limits(s.environ, runtime.GOMAXPROCS(0), max(1, s.target), proc.MemoryLimit())
}

// due reports whether t has come, and has the next step taken then if not.
func (s *supervisor) due(t, now time.Time) bool {
	if !now.Before(t) {
		return true
	}
	s.wake(t)
	return false
}

func (s *supervisor) wake(t time.Time) {
	if s.wakeAt.IsZero() || t.Before(s.wakeAt) {
		s.wakeAt = t
	}
}

// run is the control goroutine. It returns when no worker is left.
func (s *supervisor) run() error {
	children := make(chan os.Signal, 1)
	notifyChildren(children)
	timer := time.NewTimer(0)
	defer timer.Stop()
	s.reap()
	// What this master has must be known before the first worker has any of it.
	s.steer()
	s.publish(time.Now())
	now := time.Now()
	for {
		s.wakeAt = time.Time{}
		if over, err := s.step(now); over {
			s.killRest()
			return err
		}
		now = s.sleep(children, timer, now)
	}
}

// reap takes the exit status of every worker that has ended. What such a worker said last is heard before its exit
// counts.
func (s *supervisor) reap() {
	for _, p := range s.processes {
		s.reapOne(p)
	}
	s.orphans.reap(s.known)
}

// reapOne is reap for one worker.
func (s *supervisor) reapOne(p *process) {
	if p.reaped || !p.takeEnd() {
		return
	}
	p.reaped, p.ended = true, time.Now()
	p.notify.Finish()
	if p.leads {
		s.leaveRemnant(p)
	}
	s.exited(s.slotOf(p), p)
}

// known reports whether a child that has ended is one that this supervisor reaps itself.
func (s *supervisor) known(pid int) bool { return s.processes[pid] != nil || s.remnants[pid] != nil }

// step brings everything forward that can be, and publishes what came of it. It is over when the master's work is.
func (s *supervisor) step(now time.Time) (over bool, err error) {
	for _, p := range s.processes {
		s.watch(p, now)
	}
	s.tendRemnants(now)
	if over, err := s.stopStep(now); over {
		return true, err
	}
	if !s.stopping() {
		s.endCrashLoops(now)
		for _, sl := range s.slots {
			if sl.cur == nil && sl.next == nil && !sl.retiring && s.startDue(sl, now) {
				s.start(sl)
			}
		}
		if err := s.hopeless(); err != nil {
			return true, err
		}
		s.operate(now)
		s.unpark(now)
		s.leave()
	}
	// Once more, for the deadlines of what was started or stopped just now.
	for _, p := range s.processes {
		s.watch(p, now)
	}
	if s.orphans.waiting() {
		s.orphans.reap(s.known)
		s.wake(now.Add(orphanAge / 2))
	}
	s.lookForStrangers(now)
	s.watchStore(now)
	s.steer()
	s.publish(now)
	return false, nil
}

// operate goes on with what is being done, or begins the next: an upgrade before a rolling restart, which is part of
// it, both before a change of the number of slots, and single replacements last.
func (s *supervisor) operate(now time.Time) {
	for {
		if s.op == nil {
			s.op = s.nextOperation(now)
		}
		if s.op == nil {
			return
		}
		if !s.op.step(s, now) {
			return
		}
		s.op = nil
	}
}

func (s *supervisor) nextOperation(now time.Time) operation {
	switch {
	case s.phase != serving:
		return nil
	case s.upgrade:
		s.upgrade = false
		return s.newUpgrade()
	case s.reload:
		s.reload = false
		return s.newRollout("reload")
	case len(s.slots) < s.target && s.due(s.growAt, now):
		return &growth{}
	case len(s.slots) > s.target:
		return newRetirement(s.slots[len(s.slots)-1])
	}
	if sl := s.oldestToRenew(); sl != nil {
		return &recycling{replacement{slot: sl, reason: recycle}}
	}
	return nil
}

// oldestToRenew returns the slot whose worker is recycled next, or nil. The oldest worker comes first, so that every slot
// has its turn when workers ask faster than they can be replaced.
func (s *supervisor) oldestToRenew() (oldest *slot) {
	for _, sl := range s.slots {
		if p := sl.cur; p != nil && p.recycleRequested && p.state == ready && (oldest == nil || p.readyFrom.Before(oldest.cur.readyFrom)) {
			oldest = sl
		}
	}
	return oldest
}

// hopeless returns an error when no worker has ever been ready and there is no hope that one will be: the command
// cannot be executed, or every slot has failed several times in a row.
func (s *supervisor) hopeless() error {
	if s.anyReadyOnce || s.allReadyOnce {
		return nil
	}
	if s.refused != nil {
		return s.refused
	}
	for _, sl := range s.slots {
		if sl.failures < patience || sl.cur != nil || sl.short {
			return nil
		}
	}
	if len(s.slots) == 0 {
		return nil
	}
	return fmt.Errorf("master: no worker became ready: each of %d slots failed %d times in a row, the last by %s: the "+
		"workers' own output says why", len(s.slots), patience, s.slots[len(s.slots)-1].lastExit)
}

// steer has new connections go to the slots that accept, when that has changed.
func (s *supervisor) steer() {
	want := s.targets(time.Now())
	if s.steered != nil && reflect.DeepEqual(want, s.steered) {
		return
	}
	s.steered = want
	steered, why := 0, "no addresses"
	for _, g := range s.groups {
		err := g.Steer(among(want))
		switch {
		case g.Sharing() != "":
			why = g.Sharing()
			if g.Network == "tcp" {
				steered = -len(s.groups) // it should be
			}
		case err != nil:
			s.log.Error("steering failed: connections go to all sockets, those of slots without a worker included",
				"address", g.Where(), "err", err)
			why, steered, s.steered = err.Error(), -len(s.groups), nil
			s.wake(time.Now().Add(time.Second))
		default:
			steered++
		}
	}
	s.steering = "on"
	if steered <= 0 {
		s.steering = "off: " + why
	}
}

// publish makes the state known to the endpoint, to the command line and to systemd, when it has changed.
func (s *supervisor) publish(now time.Time) {
	readySlots := 0
	for _, sl := range s.slots {
		if sl.accepts() {
			readySlots++
		}
	}
	s.anyReadyOnce = s.anyReadyOnce || readySlots > 0
	if !s.allReadyOnce && len(s.slots) > 0 && readySlots == len(s.slots) {
		s.allReadyOnce = true
		s.log.Info("all workers are ready", "workers", readySlots)
	}
	st := Status{PID: os.Getpid(), Version: version, Started: s.started, Store: s.storePath, Metrics: s.endpoint.Address(),
		Ready: s.allReadyOnce && readySlots > 0 && s.phase == serving && !s.allCrashing(), Steering: s.steering, Workers: s.target, Addresses: []string{}}
	for _, g := range s.groups {
		st.Addresses = append(st.Addresses, g.Where())
	}
	if len(s.slots) < s.target {
		st.Shortage = s.shortage
	}
	switch {
	case s.upgrade:
		st.Queued = "upgrade"
	case s.reload:
		st.Queued = "reload"
	}
	if s.rollout != nil {
		r := *s.rollout
		st.Rollout = &r
	}
	st.Releases = s.releasesInUse()
	st.Slots = make([]Slot, 0, len(s.slots))
	for _, sl := range s.slots {
		st.Slots = append(st.Slots, sl.status())
	}
	st.Strangers, st.StoreTrouble = s.strangers.list(), s.storeWatch.trouble
	s.counters.observe(s, st)
	if !reflect.DeepEqual(st, s.lastStatus) {
		s.lastStatus = st
		s.published.Store(&st)
	}
	s.tellManager(st, readySlots, now)
}

// managerRetry is when systemd is told again what its queue had no room for.
const managerRetry = 100 * time.Millisecond

// tellManager says to systemd what has changed.
func (s *supervisor) tellManager(st Status, readySlots int, now time.Time) {
	if s.manager == nil {
		return
	}
	state, lines := "starting", []string(nil)
	switch {
	case s.phase != serving:
		state, lines = "stopping", []string{"STOPPING=1"}
	case st.Rollout != nil && st.Rollout.State == running:
		state, lines = "reloading", []string{"RELOADING=1", "MONOTONIC_USEC=" + monotonicUsec()}
	case s.allReadyOnce:
		state, lines = "ready", []string{"READY=1"}
	}
	text := fmt.Sprintf("STATUS=%s: %d of %d workers ready", state, readySlots, s.target)
	settled := true
	switch {
	case state != s.lastState:
		settled = s.manager.TrySend(append(lines, text)...)
	case text != s.lastText:
		settled = s.manager.TrySend(text)
	}
	if settled {
		s.lastState, s.lastText = state, text
	} else {
		s.wake(now.Add(managerRetry))
	}
	if usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 {
		if s.due(s.beatAt, now) {
			s.manager.TrySend("WATCHDOG=1")
			s.beatAt = now.Add(time.Duration(usec) * time.Microsecond / 2)
			s.wake(s.beatAt)
		}
	}
}

// number is a decimal number, 0 for anything else.
func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// marshal is JSON of what always can be.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // a struct of plain fields
	}
	return b
}
