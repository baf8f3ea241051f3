package master

import (
	"cmp"
	"log/slog"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master/internal/endpoint"
	"github.com/onescrape/onescrape/master/internal/loop"
	"github.com/onescrape/onescrape/master/internal/metrics"
	"github.com/onescrape/onescrape/master/internal/release"
	"github.com/onescrape/onescrape/master/internal/remnants"
	"github.com/onescrape/onescrape/master/internal/sockets"
	"github.com/onescrape/onescrape/master/internal/store"
	"github.com/onescrape/onescrape/master/internal/system"
)

// supervisor is a master at work. One goroutine, that of run, owns it: the control goroutine. Others send to the channels of
// events, and read the published status.
type supervisor struct {
	masterState // is handed over by an upgrade

	cfg      Config
	log      *slog.Logger
	sys      system.System
	environ  []string // what the workers inherit
	loop     *loop.Loop
	events   events
	lifeline system.Lifeline

	store     *store.Store
	sockets   *sockets.Sockets
	endpoint  *endpoint.Endpoint
	metrics   *metrics.Metrics
	announcer *announcer
	remnants  *remnants.Remnants

	slots     []*slot
	processes map[int]*process // by pid, until they are gone
	releases  release.List
	requests  requests
	startup   startup
	shutdown  shutdown
}

// masterState is what an upgrade hands over of the supervisor itself.
type masterState struct {
	Target  int       `json:"target"`        // how many slots there should be
	Started time.Time `json:"started"`       // of the first master of this process
	Epoch   int       `json:"epoch"`         // counts the upgrades in place
	Rollout *Rollout  `json:"rollout"`       // the last one
	Upgrade bool      `json:"upgrade"`       // a USR2 waits
	Dir     string    `json:"dir,omitempty"` // where workers start; "": where the master is
}

// events are the channels on which the control goroutine waits, beside those of its loop.
type events struct {
	messages chan message
	signals  chan os.Signal
	children chan os.Signal
}

// requests are what the control goroutine has been asked to do to the slots.
type requests struct {
	op     operation // what is being done, one thing at a time
	reload bool      // a HUP waits
	growth growthState
}

// operation is something that takes a while: a rolling restart, a replacement, a slot that is given up, an upgrade.
type operation interface {
	// step does what can be done now and reports whether the operation is over. It is called after every event.
	step(s *supervisor, now time.Time) bool
	// abort ends it because the master stops.
	abort(s *supervisor)
}

// run is the control goroutine. It returns when no worker is left.
func (s *supervisor) run() error {
	notifyChildren(s.events.children)
	timer := time.NewTimer(0)
	defer timer.Stop()
	s.take()
	now := s.loop.Now()
	for {
		s.loop.Begin()
		if over, err := s.step(now); over {
			s.killRest()
			return err
		}
		now = s.sleep(timer, now)
	}
}

// take takes possession of what was opened or adopted, before the first step.
func (s *supervisor) take() {
	s.reap()
	// The store must know what this master has before the first worker has any of it.
	s.sockets.Steer()
	s.publish(s.loop.Now())
}

// inOrder returns the processes in the order of their pids, so that a run can be replayed.
func (s *supervisor) inOrder() []*process {
	return slices.SortedFunc(maps.Values(s.processes), func(a, b *process) int { return cmp.Compare(a.PID, b.PID) })
}

// reap takes the exit status of every worker that has ended. What such a worker said last is handled before its exit counts.
func (s *supervisor) reap() {
	for _, p := range s.inOrder() {
		s.reapOne(p)
	}
	s.remnants.ReapOrphans(s.known)
}

// reapOne is reap for one worker.
func (s *supervisor) reapOne(p *process) {
	if p.end.reaped || !s.takeEnd(p) {
		return
	}
	p.end.reaped, p.end.at = true, s.loop.Now()
	p.notify.Finish()
	s.exited(s.slotOf(p), p)
}

// known reports whether a child that has ended is one that this supervisor reaps itself.
func (s *supervisor) known(pid int) bool { return s.processes[pid] != nil }

// step brings everything forward that can be, and publishes what came of it. It is over when the master's work is.
func (s *supervisor) step(now time.Time) (over bool, err error) {
	for _, p := range s.inOrder() {
		s.watch(p, now)
	}
	s.remnants.Tend(now)
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
		s.sockets.CloseDue(now)
		s.closeRemoved()
	}
	// Once more, for the deadlines of what was started or stopped just now.
	for _, p := range s.inOrder() {
		s.watch(p, now)
	}
	s.remnants.ReapOrphans(s.known)
	s.sockets.LookForStrangers(now)
	s.store.Watch(now)
	s.sockets.Steer()
	s.publish(now)
	return false, nil
}

// operate goes on with what is being done, or begins the next: an upgrade before a rolling restart, which is part of
// it, both before a change of the number of slots, and single replacements last.
func (s *supervisor) operate(now time.Time) {
	for {
		if s.requests.op == nil {
			s.requests.op = s.nextOperation(now)
		}
		if s.requests.op == nil {
			return
		}
		if !s.requests.op.step(s, now) {
			return
		}
		s.requests.op = nil
	}
}

func (s *supervisor) nextOperation(now time.Time) operation {
	switch {
	case s.shutdown.phase != serving:
		return nil
	case s.Upgrade:
		s.Upgrade = false
		return s.newUpgrade()
	case s.requests.reload:
		s.requests.reload = false
		return s.newRollout("reload")
	case len(s.slots) < s.Target && s.loop.Due(s.requests.growth.at, now):
		return &growth{}
	case len(s.slots) > s.Target:
		return newRetirement(s.slots[len(s.slots)-1])
	}
	if sl := s.oldestToRecycle(); sl != nil {
		return &recycling{replacement{slot: sl, reason: recycle}}
	}
	return nil
}

// oldestToRecycle returns the slot whose worker is recycled next, or nil. The oldest worker comes first, so that every slot
// has its turn when workers ask faster than they can be replaced.
func (s *supervisor) oldestToRecycle() (oldest *slot) {
	for _, sl := range s.slots {
		if p := sl.cur; p != nil && p.recycleRequested && p.State == ready && (oldest == nil || p.readyFrom.Before(oldest.cur.readyFrom)) {
			oldest = sl
		}
	}
	return oldest
}

// closeRemoved closes the addresses that the configuration no longer has, when no worker is left that was started with them.
func (s *supervisor) closeRemoved() {
	if !s.sockets.Removed() {
		return
	}
	for _, p := range s.inOrder() {
		if p.Epoch < s.Epoch {
			return
		}
	}
	s.sockets.CloseRemoved()
}

// killRest ends everything that the master would leave behind.
func (s *supervisor) killRest() {
	for _, p := range s.inOrder() {
		s.signal(p, syscall.SIGKILL)
	}
	s.remnants.Kill()
}
