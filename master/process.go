package master

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master/internal/environment"
	"github.com/onescrape/onescrape/master/internal/release"
	"github.com/onescrape/onescrape/master/internal/system"
	"github.com/onescrape/onescrape/worker/sdnotify"
)

// process is one worker process. The control goroutine owns it.
type process struct {
	processState // is handed over by an upgrade

	notify    system.Receiver
	readyFrom time.Time        // the ready timeout counts from here: Started, plus the master's pauses
	release   *release.Release // nil: unknown
	rollout   int              // the rollout that started it as a worker of its release; 0: none
	start     uint64           // see proc.ID
	leads     bool             // it leads a process group of its own

	look             look
	recycleRequested bool // a successor is wanted
	forkChecked      bool // the master has looked whether it forks before it listens
	end              end
}

// processState is what an upgrade hands over of a process.
type processState struct {
	Slot           int       `json:"slot"`
	PID            int       `json:"pid"`
	Epoch          int       `json:"epoch"` // of the supervisor when it was started
	State          string    `json:"state"` // starting, ready or draining
	Started        time.Time `json:"started"`
	ReadyAt        time.Time `json:"ready_at"`
	StopAt         time.Time `json:"stop_at"`   // when it was told to stop, or said that it does
	Beat           time.Time `json:"beat"`      // of the watchdog
	RecycleAt      time.Time `json:"renew_at"`  // by MaxAge; zero: never
	StoppingItself bool      `json:"stops"`     // it said STOPPING=1 itself
	Cause          string    `json:"cause"`     // why the master ends it: a reason of restarts; "" when it ends by itself
	Killed         bool      `json:"killed"`    // KILL was sent
	Storeless      bool      `json:"storeless"` // its metrics die with it
	Text           string    `json:"text"`      // STATUS=
}

// look is the look at what is in a worker's notify socket that overdue waits for.
type look struct {
	asked    uint32 // 0: none
	answered uint32 // the last one that was answered
}

// end is how a process has ended, as far as it has.
type end struct {
	reaped  bool // its end was taken; its pid must not be used any more
	handled bool // everything that it said was handled: nobody reads its notify socket any more
	gone    bool // both
	at      time.Time
	wait    syscall.WaitStatus
	execErr error // the command could not be executed
}

// reason returns the value of the label reason under which its exit is counted.
func (p *process) reason() string {
	switch {
	case p.Cause != "":
		return p.Cause
	case p.end.wait.Signaled():
		return "signal"
	case p.end.wait.ExitStatus() != 0:
		return "error"
	}
	return "exit"
}

// erred reports whether the process ended with an error: an exit status other than 0, a signal that the master did not send, or
// the master's KILL because it hung or was not ready in time. After the master has told a process to stop, its end is no error.
func (p *process) erred() bool {
	switch {
	case p.Killed:
		return p.Cause == "watchdog" || p.Cause == "not_ready"
	case p.Cause != "":
		return false
	}
	return p.end.execErr != nil || p.end.wait.Signaled() || p.end.wait.ExitStatus() != 0
}

// died returns the end of a process as an error of its release.
func (p *process) died() error {
	switch {
	case p.end.execErr != nil:
		return p.end.execErr
	case p.ReadyAt.IsZero():
		return fmt.Errorf("the new worker ended before it was ready: %s", p.exit())
	}
	return fmt.Errorf("the new worker ended %v after it was ready: %s",
		p.end.at.Sub(p.ReadyAt).Round(time.Millisecond), p.exit())
}

// exit says how it ended.
func (p *process) exit() string {
	switch {
	case p.end.execErr != nil:
		return p.end.execErr.Error()
	case p.end.wait.Signaled():
		text := "signal: " + p.end.wait.Signal().String()
		if p.Killed {
			switch p.Cause {
			case "watchdog":
				text += " (by the master: no sign of life in time)"
			case "not_ready":
				text += " (by the master: not ready in time)"
			default:
				text += " (by the master: not stopped in time)"
			}
		}
		return text
	}
	return fmt.Sprintf("exit status %d", p.end.wait.ExitStatus())
}

// signal sends a signal to a process, unless the process has gone.
func (s *supervisor) signal(p *process, sig syscall.Signal) {
	if !p.end.reaped {
		s.sys.Signal(p.PID, sig)
	}
}

// takeEnd reports whether the process has ended, and keeps how. It does not reap the leader of a group.
func (s *supervisor) takeEnd(p *process) bool {
	status, ended := s.sys.Ended(p.PID, p.leads)
	if ended {
		p.end.wait = status
	}
	return ended
}

// launch starts a process for a slot, in a directory; "" is the master's own.
func (s *supervisor) launch(slot int, dir string) (*process, error) {
	cmd, err := s.sys.FindProgram(s.cfg.Command, dir)
	if err != nil {
		return nil, err // it was there when the master started, so somebody is replacing it
	}
	step, err := s.sys.Self()
	if err != nil {
		return nil, fmt.Errorf("master: find this program's executable: %w", err)
	}
	notify, err := s.sys.NewReceiver()
	if err != nil {
		return nil, fmt.Errorf("master: %w", err)
	}
	null, err := os.Open(os.DevNull) // the worker's standard input
	if err != nil {
		notify.Close()
		return nil, err
	}
	defer null.Close()
	fds, names := s.sockets.OfSlot(slot)
	files := append([]uintptr{null.Fd(), 1, 2}, fds...)
	files = append(files, uintptr(s.lifeline.Read))
	env := environment.Of(environment.Worker{Exec: cmd.Path, Dir: dir, Store: s.store.Path(), Notify: notify.Name(), Slot: slot,
		Lifeline: len(files) - 1, Names: names, MaxRequests: jittered(s.cfg.MaxRequests, s.cfg.Jitter, s.sys.Random()), Settings: s.cfg.settings(),
	}, s.environ, environment.Limits(s.environ, runtime.GOMAXPROCS(0), max(1, s.Target), s.sys.MemoryLimit()))
	rel := s.releaseOf(cmd.Path, dir)
	leads := len(s.cfg.Command) > 0
	pid, err := s.sys.Start(system.Command{Path: step, Args: cmd.Args, Env: env, Dir: dir, Files: files, OwnGroup: leads})
	if err != nil {
		notify.Close()
		return nil, fmt.Errorf("master: start a worker: %w", err)
	}
	now := s.loop.Now()
	p := &process{processState: processState{Slot: slot, PID: pid, Epoch: s.Epoch, State: starting, Started: now, Beat: now},
		rollout: s.rolloutOf(dir), release: rel, readyFrom: now, notify: notify}
	p.leads, p.start = leads && s.sys.LeadsGroup(pid), s.sys.StartTime(pid)
	if age := jittered(s.cfg.MaxAge, s.cfg.Jitter, s.sys.Random()); age > 0 {
		p.RecycleAt = now.Add(age)
	}
	s.follow(p)
	s.log.Debug("worker started", "slot", slot, "pid", pid)
	return p, nil
}

// follow passes what the process says to the control goroutine, which reaps it from now on.
func (s *supervisor) follow(p *process) {
	s.processes[p.PID] = p
	p.end.handled = false
	p.notify.Start()
	go p.notify.Run(p.PID, func(m sdnotify.Message) { s.events.messages <- message{p, m} })
}

// id returns attributes that name the process.
func (p *process) id() slog.Attr { return slog.Group("", "slot", p.Slot, "pid", p.PID) }

// notExecutable says why the workers' command could not be executed.
func (c Config) notExecutable(path string, errno syscall.Errno) error {
	return fmt.Errorf("master: cannot run %s: %w: check that it is a program for this machine, with the right to execute "+
		"it and, for a script, an interpreter that exists", path, errno)
}
