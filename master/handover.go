package master

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/onescrape/onescrape/master/internal/bootstrap"
	"github.com/onescrape/onescrape/master/internal/endpoint"
	"github.com/onescrape/onescrape/master/internal/release"
	"github.com/onescrape/onescrape/master/internal/remnants"
	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/master/internal/system"
)

// handoverVersion changes when a master could not go on from what another version hands over. A program of another
// version fails the check.
const handoverVersion = 1

// handover is what a master leaves to the one that follows in the same process, as JSON. Descriptors are numbers that stay open
// over the exec.
type handover struct {
	masterState
	storeHandover
	endpointHandover
	releaseHandover

	Version    int               `json:"version"`
	Program    string            `json:"program"`
	Lifeline   [2]int            `json:"lifeline"`
	Groups     []reuseport.State `json:"groups"`
	Slots      []slotHandover    `json:"slots"`
	Gone       []processHandover `json:"gone"`   // of slots that were given up
	Parked     []int             `json:"parked"` // slots
	Remnants   []remnants.State  `json:"remnants"`
	Configured int               `json:"configured"` // Config.Workers
	Speaks     bool              `json:"speaks"`     // a worker has said READY=1
	AnyReady   bool              `json:"any_ready"`  // a worker has been ready once; older masters do not say it
	Ever       bool              `json:"ever"`       // all slots have been ready once
	Began      time.Time         `json:"began"`
	Executed   time.Time         `json:"executed"` // when the old program ended
	LogLost    int               `json:"log_lost"` // log lines that the exec loses because nobody reads them
}

type storeHandover struct {
	Store    string `json:"store"`
	StoreEnv string `json:"store_env"` // ONESCRAPE_DIR of the master itself
	Lock     int    `json:"lock"`
}

type endpointHandover struct {
	Metrics   int    `json:"metrics"` // -1: off
	MetricsAt string `json:"metrics_at"`
}

type releaseHandover struct {
	Checked     release.File       `json:"checked"` // the program that was checked and executed
	Releases    []*release.Release `json:"releases,omitempty"`
	LastRelease int                `json:"last_release,omitempty"`
}

// slotHandover is a slot with its processes.
type slotHandover struct {
	slotState
	Cur       *processHandover  `json:"cur"`
	Old       []processHandover `json:"old"`
	Remaining durations         `json:"remaining,omitempty"`
}

// processHandover is a process with its notify socket.
type processHandover struct {
	processState
	Notify    int       `json:"notify"`
	Name      string    `json:"notify_name"`
	Remaining durations `json:"remaining,omitempty"`
	Release   int       `json:"release,omitempty"`
	// Remnant says that it is the leader of one of the remnants, for masters that know none.
	Remnant bool `json:"remnant,omitempty"`
}

// durations are moments by their names, in nanoseconds from the exec on; negative ones are past. The fields beside them have
// the same moments by the wall clock, for older masters. The wall clock can be set meanwhile, durations cannot.
type durations map[string]time.Duration

// handedOver is the set of descriptors that stay open over an exec.
type handedOver struct {
	sys    system.System
	kept   []int // which close at an exec if this one is cancelled
	copies []int
	err    error
}

// keep has fd stay open under its number.
func (h *handedOver) keep(fd int) int {
	h.err = errors.Join(h.err, h.sys.Inherit(fd, true))
	h.kept = append(h.kept, fd)
	return fd
}

// copy has a duplicate of fd stay open.
func (h *handedOver) copy(fd int) int {
	dup, err := h.sys.Duplicate(fd)
	if err != nil {
		h.err = errors.Join(h.err, err)
		return -1
	}
	h.copies = append(h.copies, dup)
	return dup
}

// undo closes the descriptors again when the exec is cancelled.
func (h *handedOver) undo() {
	for _, fd := range h.kept {
		_ = h.sys.Inherit(fd, false)
	}
	for _, fd := range h.copies {
		h.sys.Close(fd)
	}
}

// describe makes the handover of the supervisor's state.
func (s *supervisor) describe(h *handedOver, u *upgrading) handover {
	now := s.loop.Now()
	out := handover{masterState: s.masterState, Version: handoverVersion, Program: release.Own().Path,
		storeHandover:    storeHandover{s.store.Path(), os.Getenv("ONESCRAPE_DIR"), h.copy(int(s.store.Lock().File().Fd()))},
		endpointHandover: endpointHandover{Metrics: -1}, releaseHandover: releaseHandover{Checked: u.file},
		Lifeline: [2]int{h.keep(s.lifeline.Read), h.keep(s.lifeline.Write)}, Groups: s.sockets.State(h.keep),
		Parked: s.sockets.Closing(), Remnants: s.remnants.States(), Configured: s.cfg.Workers,
		Speaks: s.startup.protocol == saysWhenReady, AnyReady: s.startup.progress >= someReady, Ever: s.startup.progress == allReady,
		Began: wall(u.began, now), LogLost: u.halted.unwritten(), Executed: now}
	out.Releases, out.LastRelease = s.releases.All()
	if s.endpoint != nil {
		out.Metrics, out.MetricsAt = h.keep(s.endpoint.FD()), s.endpoint.Listen()
	}
	described := make(map[*process]bool)
	for _, sl := range s.slots {
		state := slotHandover{slotState: sl.slotState, Remaining: remaining(sl, now)}
		state.RetryAt = wall(sl.RetryAt, now)
		if sl.cur != nil {
			described[sl.cur] = true
			p := h.process(sl.cur, now)
			state.Cur = &p
		}
		for _, p := range sl.old {
			described[p] = true
			state.Old = append(state.Old, h.process(p, now))
		}
		out.Slots = append(out.Slots, state)
	}
	for _, p := range s.inOrder() {
		if !described[p] {
			out.Gone = append(out.Gone, h.process(p, now))
		}
	}
	for _, r := range out.Remnants {
		out.Gone = append(out.Gone, h.remnant(s.sys, r, now)...)
	}
	return out
}

// process describes a process.
func (h *handedOver) process(p *process, now time.Time) processHandover {
	out := processHandover{processState: p.processState, Remaining: remaining(p, now), Name: p.notify.Name(), Notify: -1}
	for _, t := range []*time.Time{&out.ReadyAt, &out.StopAt, &out.Beat, &out.RecycleAt} {
		*t = wall(*t, now)
	}
	if p.release != nil {
		out.Release = p.release.Number
	}
	out.Notify = h.socket(p.notify)
	return out
}

// remnant describes the leader of a group as a process of a slot that was given up. A master that looks after no groups knows
// only that, so that it reaps the leader; another one passes it over.
func (h *handedOver) remnant(sys system.System, r remnants.State, now time.Time) []processHandover {
	n, err := sys.NewReceiver()
	if err != nil {
		h.err = errors.Join(h.err, err)
		return nil
	}
	defer n.Close()
	return []processHandover{{processState: processState{Slot: r.Slot, PID: r.PGID, State: draining, Started: now, ReadyAt: now,
		StopAt: now, Beat: now, Cause: "stop"}, Name: n.Name(), Notify: h.socket(n), Remnant: true}}
}

// socket has a duplicate of a notify socket stay open.
func (h *handedOver) socket(n system.Receiver) int {
	out := -1
	h.err = errors.Join(h.err, n.Control(func(fd int) error {
		out = h.copy(fd)
		return nil
	}))
	return out
}

// readHandover reads what the master before this one in the same process left; nil when there was none.
func readHandover() (*handover, error) {
	value, ok := os.LookupEnv(bootstrap.HandoverEnv)
	if !ok {
		return nil, nil
	}
	os.Unsetenv(bootstrap.HandoverEnv)
	f := os.NewFile(uintptr(number(value)), "handover")
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	if err != nil {
		return nil, fmt.Errorf("master: read the handover: %w", err)
	}
	return parseHandover(text)
}

// parseHandover returns the handover that a state file has.
func parseHandover(text []byte) (*handover, error) {
	var h handover
	if err := json.Unmarshal(text, &h); err != nil {
		return nil, fmt.Errorf("master: read the handover: %w", err)
	}
	if h.Version != handoverVersion {
		return nil, fmt.Errorf("master: the handover has version %d and this program knows %d", h.Version, handoverVersion)
	}
	return &h, nil
}

// adopt goes on where the master before this one in the same process stopped.
func (s *supervisor) adopt(h *handover) (err error) {
	now := s.loop.Now()
	release.SetOwnPath(h.Program)
	if h.StoreEnv != "" {
		os.Setenv("ONESCRAPE_DIR", h.StoreEnv)
	}
	if s.cfg.Store != "" && s.cfg.Store != h.Store {
		s.log.Warn("an upgrade cannot change the store: restart the service for that", "store", h.Store,
			"wanted", s.cfg.Store)
	}
	_ = s.sys.Inherit(h.Lock, false)
	last, err := s.store.Adopt(h.Store, os.NewFile(uintptr(h.Lock), "lock"))
	if err != nil {
		return err
	}
	s.goOnFrom(last, h.LogLost)
	for _, fd := range h.Lifeline {
		_ = s.sys.Inherit(fd, false)
	}
	s.lifeline = system.Lifeline{Read: h.Lifeline[0], Write: h.Lifeline[1]}
	target := s.Target
	s.masterState, s.releases = h.masterState, release.NewList(h.Releases, h.LastRelease)
	s.Dir, s.Epoch = s.adoptedDir(h), h.Epoch+1
	// A number that was changed by TTIN and TTOU stays, unless the configuration says another than before.
	if s.cfg.Workers != h.Configured {
		s.Target = target
	}
	if h.Speaks {
		s.startup.protocol = saysWhenReady
	}
	if h.AnyReady || h.Speaks {
		s.startup.progress = someReady
	}
	if h.Ever {
		s.startup.progress = allReady
	}
	s.remnants.Adopt(h.Remnants)
	if err := s.store.OpenMerged(s.metrics); err != nil {
		return err
	}
	if err := s.adoptEndpoint(h); err != nil {
		return err
	}
	if err := s.adoptWorkers(h, now); err != nil {
		return err
	}
	began := now.Add(h.Began.Sub(h.Executed))
	if h.Rollout == nil {
		h.Rollout = &Rollout{Kind: "upgrade", State: running, Total: len(s.slots)}
		s.Rollout = h.Rollout
	}
	roll := s.roll(s.Rollout, began)
	roll.file = h.Checked // of this program; prepare notes a command itself
	s.requests.op = roll
	if err := s.adoptAddresses(h); err != nil {
		roll.end(s, err)
		s.requests.op = nil
	}
	if err := s.endpoint.Start(); err != nil {
		return err
	}
	s.log.Info("master upgraded", "pid", os.Getpid(), "version", version, "workers", s.Target, "listen", s.sockets.Addresses(),
		"metrics", s.endpoint.Address(), "took", s.loop.Now().Sub(began).Round(time.Millisecond),
		"deaf", bootstrap.Since.Sub(h.Executed))
	return nil
}

// adoptedDir returns where workers start that are not of this rollout: where those of the last one did.
func (s *supervisor) adoptedDir(h *handover) string {
	switch {
	case s.cfg.Chdir == "":
		return ""
	case h.Dir != "":
		return h.Dir
	}
	dir, err := s.sys.ResolveDir(s.cfg.Chdir)
	if err != nil {
		s.log.Error("the workers start where the master is", "err", err)
	}
	return dir
}

// adoptEndpoint goes on with the metrics port, or opens the one that the configuration names now.
func (s *supervisor) adoptEndpoint(h *handover) (err error) {
	if h.Metrics >= 0 {
		_ = s.sys.Inherit(h.Metrics, false)
	}
	cfg := s.endpointConfig()
	if h.Metrics >= 0 && cfg.Listen == h.MetricsAt {
		s.endpoint, err = endpoint.On(cfg, h.Metrics)
		return err
	}
	s.endpoint, err = endpoint.Open(cfg)
	switch {
	case err != nil && h.Metrics >= 0:
		s.log.Error("the metrics port stays where it was", "err", err)
		cfg.Listen = h.MetricsAt
		s.endpoint, err = endpoint.On(cfg, h.Metrics)
	case err != nil:
		s.log.Error("there is no metrics port", "err", err)
		err = nil
	case h.Metrics >= 0:
		s.sys.Close(h.Metrics)
	}
	return err
}

// adoptWorkers goes on with the slots and their processes.
func (s *supervisor) adoptWorkers(h *handover, now time.Time) error {
	for i, ss := range h.Slots {
		sl := &slot{number: i, slotState: ss.slotState}
		restore(sl, ss.Remaining, h.Executed, now)
		if ss.Cur != nil {
			p, err := s.adoptProcess(*ss.Cur, h.Executed, now)
			if err != nil {
				return err
			}
			sl.cur = p
		}
		for _, ps := range ss.Old {
			p, err := s.adoptProcess(ps, h.Executed, now)
			if err != nil {
				return err
			}
			sl.old = append(sl.old, p)
		}
		s.slots = append(s.slots, sl)
	}
	for _, ps := range h.Gone {
		if ps.Remnant {
			s.sys.Close(ps.Notify)
			continue
		}
		if _, err := s.adoptProcess(ps, h.Executed, now); err != nil {
			return err
		}
	}
	return nil
}

// adoptProcess goes on with a worker that the master before this one started.
func (s *supervisor) adoptProcess(ps processHandover, executed, now time.Time) (*process, error) {
	notify, err := s.sys.AdoptReceiver(ps.Notify, ps.Name)
	if err != nil {
		return nil, fmt.Errorf("master: adopt worker %d: %w", ps.PID, err)
	}
	p := &process{processState: ps.processState, readyFrom: ps.Started, notify: notify}
	p.leads, p.start = s.sys.LeadsGroup(p.PID), s.sys.StartTime(p.PID)
	restore(p, ps.Remaining, executed, now)
	p.release = s.releases.Number(ps.Release)
	s.follow(p)
	return p, nil
}

// adoptAddresses goes on with the addresses of the new configuration: those that there were keep their sockets,
// others are opened, and those that are no more are closed when the last worker that was started with them has gone.
// When one cannot be opened, everything stays as it was, and the workers are not replaced.
func (s *supervisor) adoptAddresses(h *handover) error {
	if err := s.sockets.Adopt(h.Groups, h.Parked); err != nil {
		return err
	}
	if len(s.cfg.Listen) == 0 {
		return nil
	}
	var wanted []reuseport.Address
	for _, text := range s.cfg.Listen {
		a, err := s.cfg.address(text)
		if err != nil {
			return err
		}
		wanted = append(wanted, a)
	}
	return s.sockets.Reconfigure(wanted, len(s.slots), s.Epoch, s.opener(nil).Open)
}
