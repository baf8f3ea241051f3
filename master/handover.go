package master

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/master/internal/bootstrap"
	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/release"
	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/worker/sdnotify"
)

// checkEnv names the descriptor on which a program that is only checked says that it would run.
const checkEnv = "ONESCRAPE_CHECK"

// handoverVersion changes when a master could not go on from what another version hands over. A program of another
// version fails the check.
const handoverVersion = 1

// handover is what a master leaves to the one that follows in the same process. Descriptors are numbers that stay open
// over the exec.
type handover struct {
	Version    int               `json:"version"`
	Program    string            `json:"program"`
	Store      string            `json:"store"`
	StoreEnv   string            `json:"store_env"` // ONESCRAPE_DIR of the master itself
	Lock       int               `json:"lock"`
	Lifeline   [2]int            `json:"lifeline"`
	Metrics    int               `json:"metrics"` // -1: off
	MetricsAt  string            `json:"metrics_at"`
	Groups     []reuseport.State `json:"groups"`
	Slots      []slotState       `json:"slots"`
	Gone       []processState    `json:"gone"` // of slots that are no more
	Parked     []int             `json:"parked"`
	Remnants   []remnantState    `json:"remnants"`
	Target     int               `json:"target"`
	Configured int               `json:"configured"`
	Started    time.Time         `json:"started"`
	Speaks     bool              `json:"speaks"`
	Ever       bool              `json:"ever"`
	Epoch      int               `json:"epoch"`
	Rollout    *Rollout          `json:"rollout"`
	Began      time.Time         `json:"began"`
	Upgrade    bool              `json:"upgrade"`  // a USR2 came meanwhile
	Executed   time.Time         `json:"executed"` // when the old program ended

	Checked     release.File       `json:"checked"` // the program that was checked and executed
	Dir         string             `json:"dir,omitempty"`
	Releases    []*release.Release `json:"releases,omitempty"`
	LastRelease int                `json:"last_release,omitempty"`
	LogLost     int                `json:"log_lost"` // log lines that the exec loses because nobody reads them
}

// durations are the moments of what a master hands over, by name, as nanoseconds from the exec on; negative ones are past. The
// wall clock, by which the fields beside them say the same for older masters, can be set meanwhile.
type durations map[string]time.Duration

type slotState struct {
	Restarts int            `json:"restarts"`
	LastExit string         `json:"last_exit"`
	Started  time.Time      `json:"started"`
	Failures int            `json:"failures"`
	Errors   int            `json:"errors,omitempty"`
	Suspect  bool           `json:"suspect,omitempty"`
	RetryAt  time.Time      `json:"retry_at"`
	Cur      *processState  `json:"cur"`
	Old      []processState `json:"old"`

	Remaining durations `json:"remaining,omitempty"`
}

type processState struct {
	Slot      int       `json:"slot"`
	PID       int       `json:"pid"`
	Epoch     int       `json:"epoch"`
	State     string    `json:"state"`
	Started   time.Time `json:"started"`
	ReadyAt   time.Time `json:"ready_at"`
	StopAt    time.Time `json:"stop_at"`
	Beat      time.Time `json:"beat"`
	RenewAt   time.Time `json:"renew_at"`
	Notify    int       `json:"notify"`
	Name      string    `json:"notify_name"`
	Stops     bool      `json:"stops"`
	Cause     string    `json:"cause"`
	Killed    bool      `json:"killed"`
	Storeless bool      `json:"storeless"`
	Text      string    `json:"text"`
	Remaining durations `json:"remaining,omitempty"`
	Release   int       `json:"release,omitempty"`
	// Remnant says that it is the leader of one of the remnants, for masters that know none.
	Remnant bool `json:"remnant,omitempty"`
}

// handedOver is set of descriptors that are to stay open over an exec.
type handedOver struct {
	kept   []int // whose close-on-exec flag was cleared
	copies []int
	err    error
}

// keep has fd stay open under its number.
func (h *handedOver) keep(fd int) int {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
		h.err = errors.Join(h.err, os.NewSyscallError("fcntl", err))
	}
	h.kept = append(h.kept, fd)
	return fd
}

// copy has a duplicate of fd stay open.
func (h *handedOver) copy(fd int) int {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD, 3)
	if err != nil {
		h.err = errors.Join(h.err, os.NewSyscallError("fcntl", err))
		return -1
	}
	h.copies = append(h.copies, dup)
	return dup
}

// undo closes it all to an exec that is not going to be.
func (h *handedOver) undo() {
	for _, fd := range h.kept {
		unix.CloseOnExec(fd)
	}
	for _, fd := range h.copies {
		unix.Close(fd)
	}
}

// describe makes the handover of the supervisor's state.
func (s *supervisor) describe(h *handedOver, u *upgrading) handover {
	now := time.Now()
	out := handover{Version: handoverVersion, Program: release.Own().Path, Store: s.storePath,
		StoreEnv: os.Getenv("ONESCRAPE_DIR"), Lock: h.copy(int(s.lock.File().Fd())),
		Lifeline: [2]int{h.keep(s.lifeline.read), h.keep(s.lifeline.write)}, Metrics: -1,
		Parked: s.parkedSlots(), Remnants: s.describeRemnants(), Target: s.target, Configured: s.cfg.Workers,
		Started: s.started, Speaks: s.notifies, Ever: s.allReadyOnce, Epoch: s.epoch, Rollout: s.rollout, Began: wall(u.began, now),
		Upgrade: s.upgrade, LogLost: u.halted.unwritten(), Executed: now}
	out.Dir = s.dir
	out.Releases, out.LastRelease = s.releases.All()
	if s.endpoint != nil {
		out.Metrics, out.MetricsAt = h.keep(s.endpoint.FD()), s.endpoint.Listen()
	}
	for _, g := range s.groups {
		out.Groups = append(out.Groups, g.State(h.keep))
	}
	described := make(map[*process]bool)
	state := func(p *process) processState {
		described[p] = true
		ps := processState{Slot: p.slot, PID: p.pid, Epoch: p.epoch, State: p.state, Started: p.started,
			ReadyAt: wall(p.readyAt, now), StopAt: wall(p.stopAt, now), Beat: wall(p.beat, now), RenewAt: wall(p.recycleAt, now),
			Remaining: remaining(p, now), Name: p.notify.Name(), Stops: p.stoppingItself, Cause: p.cause,
			Killed: p.killed, Storeless: p.storeless, Text: p.text, Notify: -1}
		if p.release != nil {
			ps.Release = p.release.Number
		}
		h.err = errors.Join(h.err, p.notify.Control(func(fd int) error {
			ps.Notify = h.copy(fd)
			return nil
		}))
		return ps
	}
	for _, sl := range s.slots {
		ss := slotState{Restarts: sl.restarts, LastExit: sl.lastExit, Started: sl.started, Failures: sl.failures,
			Errors: sl.errors, Suspect: sl.suspect, RetryAt: wall(sl.retryAt, now), Remaining: remaining(sl, now)}
		if sl.cur != nil {
			ps := state(sl.cur)
			ss.Cur = &ps
		}
		for _, p := range sl.old {
			ss.Old = append(ss.Old, state(p))
		}
		out.Slots = append(out.Slots, ss)
	}
	for _, p := range s.processes {
		if !described[p] {
			out.Gone = append(out.Gone, state(p))
		}
	}
	out.Gone = append(out.Gone, s.goneRemnants(h, now)...)
	return out
}

// writeAll writes the whole text.
func writeAll(fd int, text []byte) error {
	for len(text) > 0 {
		n, err := unix.Write(fd, text)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("write", err)
		}
		text = text[max(n, 0):]
	}
	return nil
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
	var h handover
	if err := json.Unmarshal(text, &h); err != nil {
		return nil, fmt.Errorf("master: read the handover: %w", err)
	}
	if h.Version != handoverVersion {
		return nil, fmt.Errorf("master: the handover has version %d and this program knows %d", h.Version, handoverVersion)
	}
	return &h, nil
}

// adoptProcess goes on with a worker that the master before this one started.
func (s *supervisor) adoptProcess(ps processState, executed, now time.Time) (*process, error) {
	notify, err := sdnotify.AdoptReceiver(ps.Notify, ps.Name)
	if err != nil {
		return nil, fmt.Errorf("master: adopt worker %d: %w", ps.PID, err)
	}
	p := &process{slot: ps.Slot, pid: ps.PID, epoch: ps.Epoch, state: ps.State, started: ps.Started,
		readyFrom: ps.Started, readyAt: ps.ReadyAt, stopAt: ps.StopAt, beat: ps.Beat, recycleAt: ps.RenewAt, stoppingItself: ps.Stops,
		cause: ps.Cause, killed: ps.Killed, storeless: ps.Storeless, text: ps.Text, notify: notify}
	p.leads, p.start = leadsGroup(p.pid), proc.Start(p.pid)
	restore(p, ps.Remaining, executed, now)
	p.release = s.releases.Number(ps.Release)
	s.follow(p)
	return p, nil
}
