package master

import (
	"fmt"
	"os"
	"reflect"
	"strconv"
	"sync/atomic"
	"time"

	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"

	"github.com/onescrape/onescrape/master/internal/leftovers"
	"github.com/onescrape/onescrape/master/internal/metrics"
	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/system"
	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/worker/sdnotify"
)

// announcer makes the state of the master known: to the endpoint and, by a record in the store, to the command line and to the
// next master; and to systemd. The control goroutine owns it, except for published.
type announcer struct {
	record    *record
	published atomic.Pointer[Status] // what the endpoint shows

	manager   *sdnotify.Notifier // the supervisor of the master, systemd as a rule; nil: none
	lastState string             // what the manager was told
	lastText  string
	beatAt    time.Time // of the next WATCHDOG=1 to the manager
}

// publish makes the state known, when it has changed.
func (s *supervisor) publish(now time.Time) {
	readySlots := 0
	for _, sl := range s.slots {
		if sl.accepts() {
			readySlots++
		}
	}
	if s.startup.reached(readySlots, len(s.slots)) {
		s.log.Info("all workers are ready", "workers", readySlots)
	}
	st := s.status(readySlots)
	s.metrics.Set(s.gauges(st))
	s.announcer.record.set(st, s.store.Lock(), s.possessions())
	if last := s.announcer.published.Load(); last == nil || !reflect.DeepEqual(st, *last) {
		s.announcer.published.Store(&st)
	}
	s.tellManager(st, readySlots, now)
}

// status describes the master.
func (s *supervisor) status(readySlots int) Status {
	st := Status{PID: os.Getpid(), Version: version, Started: s.Started, Store: s.store.Path(), Metrics: s.endpoint.Address(),
		Ready:    s.startup.progress == allReady && readySlots > 0 && s.shutdown.phase == serving && !s.allCrashing(),
		Steering: s.sockets.Steering(), Workers: s.Target, Addresses: append([]string{}, s.sockets.Addresses()...),
		Releases: s.releasesInUse(), Slots: make([]Slot, 0, len(s.slots)), StoreTrouble: s.store.Trouble()}
	if len(s.slots) < s.Target {
		st.Shortage = s.requests.growth.shortage
	}
	switch {
	case s.Upgrade:
		st.Queued = "upgrade"
	case s.requests.reload:
		st.Queued = "reload"
	}
	if s.Rollout != nil {
		r := *s.Rollout
		st.Rollout = &r
	}
	for _, sl := range s.slots {
		st.Slots = append(st.Slots, sl.status())
	}
	for _, stranger := range s.sockets.Strangers() {
		named := Stranger{Address: stranger.Address, Inode: stranger.Inode, Holders: []Holder{}}
		for _, h := range stranger.Holders {
			named.Holders = append(named.Holders, Holder{PID: h.PID, Name: h.Name})
		}
		st.Strangers = append(st.Strangers, named)
	}
	return st
}

// gauges are what the metrics show of a status.
func (s *supervisor) gauges(st Status) metrics.Gauges {
	g := metrics.Gauges{Workers: workersByState(st.Slots), Target: st.Workers, Ready: st.Ready, Steering: st.Steering == "on"}
	for _, p := range s.inOrder() {
		if p.Storeless {
			g.WithoutStore++
		}
	}
	return g
}

// workersByState counts slots by their state. Each state has an entry.
func workersByState(slots []Slot) map[string]int {
	out := make(map[string]int)
	for _, state := range states {
		out[state] = 0
	}
	for _, sl := range slots {
		out[sl.State]++
	}
	return out
}

// managerRetry is how long after its queue was full systemd is told again.
const managerRetry = 100 * time.Millisecond

// tellManager tells systemd what has changed.
func (s *supervisor) tellManager(st Status, readySlots int, now time.Time) {
	a := s.announcer
	if a.manager == nil {
		return
	}
	state, lines := "starting", []string(nil)
	switch {
	case s.shutdown.phase != serving:
		state, lines = "stopping", []string{"STOPPING=1"}
	case st.Rollout != nil && st.Rollout.State == running:
		state, lines = "reloading", []string{"RELOADING=1", "MONOTONIC_USEC=" + system.MonotonicMicroseconds()}
	case s.startup.progress == allReady:
		state, lines = "ready", []string{"READY=1"}
	}
	text := fmt.Sprintf("STATUS=%s: %d of %d workers ready", state, readySlots, s.Target)
	settled := true
	switch {
	case state != a.lastState:
		settled = a.manager.TrySend(append(lines, text)...)
	case text != a.lastText:
		settled = a.manager.TrySend(text)
	}
	if settled {
		a.lastState, a.lastText = state, text
	} else {
		s.loop.Wake(now.Add(managerRetry))
	}
	if usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 {
		if s.loop.Due(a.beatAt, now) {
			a.manager.TrySend("WATCHDOG=1")
			a.beatAt = now.Add(time.Duration(usec) * time.Microsecond / 2)
			s.loop.Wake(a.beatAt)
		}
	}
}

// record is what the store's lock file has of the master: its status for the command line, the totals of its metrics and its
// possessions for the next master. It is written before a scrape can show a total, so totals count on over a master that was
// killed. Safe for concurrent use.
type record struct {
	log     *slog.Logger
	metrics *metrics.Metrics

	mu          sync.Mutex
	lock        *shmstore.Lock // nil while there is no store; guarded by mu, as the following
	status      Status
	possessions *leftovers.Possessions // of this master, or of the last one until this one has any
	written     []byte
	failed      bool
}

// set takes the state of the master, and writes the record if it has changed.
func (r *record) set(st Status, lock *shmstore.Lock, p *leftovers.Possessions) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.lock, r.possessions = st, lock, p
	r.save()
}

// hold keeps the last master's possessions in the store until this master has its own. The lock has erased them.
func (r *record) hold(lock *shmstore.Lock, p *leftovers.Possessions) {
	r.set(Status{PID: os.Getpid(), Version: version, Started: time.Now(), Steering: "off: starting", Addresses: []string{},
		Slots: []Slot{}}, lock, p)
}

// update writes the record if the totals have changed.
func (r *record) update() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.save()
}

// recordLimit is how many bytes the store's lock file takes.
const recordLimit = 64 << 10

// save writes the record, when it has changed. The caller holds mu.
func (r *record) save() {
	if r.lock == nil {
		return
	}
	totals := r.metrics.Totals()
	kept := struct {
		Status
		Counters    *metrics.Totals        `json:"counters"`
		Possessions *leftovers.Possessions `json:"possessions,omitempty"`
	}{r.status, &totals, r.possessions}
	text := marshal(kept)
	if len(text) > recordLimit {
		kept.Slots = slices.Clone(kept.Slots)
		for i := range kept.Slots {
			kept.Slots[i].Text, kept.Slots[i].LastExit = "", ""
		}
		text = marshal(kept)
	}
	if len(text) > recordLimit {
		kept.Slots = nil // the endpoint has them
		text = marshal(kept)
	}
	if len(text) > recordLimit {
		totals.Store.Conflicts = nil
		text = marshal(kept)
	}
	if bytes.Equal(text, r.written) {
		return
	}
	if err := r.lock.SetStatus(text); err != nil {
		if !r.failed {
			r.log.Error("the store does not take the master's status: commands such as reload do not see it", "err", err)
		}
		r.failed = true
		return
	}
	r.written, r.failed = text, false
}

// possessions returns what this master has.
func (s *supervisor) possessions() *leftovers.Possessions {
	out := &leftovers.Possessions{Boot: proc.BootID, Sockets: s.sockets.OwnInodes(), Processes: []proc.ID{}}
	for _, p := range s.inOrder() {
		out.Processes = append(out.Processes, proc.ID{PID: p.PID, Start: p.start})
	}
	slices.SortFunc(out.Processes, func(a, b proc.ID) int { return a.PID - b.PID })
	return out
}

// marshal returns JSON of a struct of plain fields, which cannot fail.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
