package master

import (
	"errors"
	"fmt"
	"log/slog"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/release"
	"github.com/onescrape/onescrape/worker/sdnotify"
)

// process is one worker process. The control goroutine owns it.
type process struct {
	slot    int
	pid     int
	epoch   int    // counts the masters of this process that were replaced in place before it was started
	state   string // starting, ready or draining
	started time.Time
	notify  *sdnotify.Receiver

	// The moments, see moments.go.
	readyFrom time.Time // the ready timeout counts from here: started, plus the master's pauses
	readyAt   time.Time
	stopAt    time.Time // when it was told to stop, or said that it does
	beat      time.Time // of the watchdog
	recycleAt time.Time // by MaxAge; zero: never

	lookAsked    uint32 // the look at its socket that overdue waits for; 0: none
	lookAnswered uint32 // the last look that was answered

	stoppingItself   bool   // it said STOPPING=1 itself
	recycleRequested bool   // a successor is wanted
	cause            string // why the master ends it: a reason of restarts; "" when it ends by itself
	killed           bool   // KILL was sent
	storeless        bool   // its metrics die with it
	text             string // STATUS=
	execErr          error  // the command could not be executed
	forkChecked      bool   // whether it forks before it listens was looked at

	start       uint64 // see proc.ID
	leads       bool   // it leads a process group of its own
	notifyEnded bool   // nobody reads its notify socket any more
	reaped      bool   // its end was taken; its pid must not be used any more
	wait        syscall.WaitStatus
	gone        bool      // reaped, and everything it said was heard
	ended       time.Time // when it was reaped

	release *release.Release // nil: unknown
	rollout int              // the rollout that started it as a worker of its release; 0: none
}

// reason is what its exit counts as among the restarts.
func (p *process) reason() string {
	switch {
	case p.cause != "":
		return p.cause
	case p.wait.Signaled():
		return "signal"
	case p.wait.ExitStatus() != 0:
		return "error"
	}
	return "exit"
}

// erred reports whether it ended with an error: an exit status other than 0, a signal that the master did not send, or
// the master's KILL because it hung or was not ready in time. What a process does once it was told to stop is no error.
func (p *process) erred() bool {
	switch {
	case p.killed:
		return p.cause == "watchdog" || p.cause == "not_ready"
	case p.cause != "":
		return false
	}
	return p.execErr != nil || p.wait.Signaled() || p.wait.ExitStatus() != 0
}

// died is its end as an error of the release that it was started with.
func (p *process) died() error {
	switch {
	case p.execErr != nil:
		return p.execErr
	case p.readyAt.IsZero():
		return fmt.Errorf("the new worker ended before it was ready: %s", p.exit())
	}
	return fmt.Errorf("the new worker ended %v after it was ready: %s",
		p.ended.Sub(p.readyAt).Round(time.Millisecond), p.exit())
}

// exit says how it ended.
func (p *process) exit() string {
	switch {
	case p.execErr != nil:
		return p.execErr.Error()
	case p.wait.Signaled():
		text := "signal: " + p.wait.Signal().String()
		if p.killed {
			switch p.cause {
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
	return fmt.Sprintf("exit status %d", p.wait.ExitStatus())
}

// signal sends it, unless the process has gone.
func (p *process) signal(sig syscall.Signal) {
	if !p.reaped {
		syscall.Kill(p.pid, sig)
	}
}

// takeEnd reports whether the process has ended, and notes how. The leader of a group is not reaped by that.
func (p *process) takeEnd() bool {
	if p.leads {
		status, ended := endedUnreaped(p.pid)
		p.wait = status
		return ended
	}
	got, err := syscall.Wait4(p.pid, &p.wait, syscall.WNOHANG, nil)
	return got == p.pid || errors.Is(err, syscall.ECHILD)
}

// restartReasons are the values of the label reason.
var restartReasons = []string{"exit", "error", "signal", "watchdog", "not_ready", "recycle", "reload", "upgrade"}

// launch starts a process for a slot, in a directory; "" is the master's own.
func (s *supervisor) launch(slot int, dir string) (*process, error) {
	cmd, err := release.Find(s.cfg.Command, dir)
	if err != nil {
		return nil, unexecutable{err}
	}
	step, err := self()
	if err != nil {
		return nil, fmt.Errorf("master: find this program's executable: %w", err)
	}
	notify, err := sdnotify.NewReceiver()
	if err != nil {
		return nil, fmt.Errorf("master: %w", err)
	}
	null, err := devNull()
	if err != nil {
		notify.Close()
		return nil, err
	}
	defer null.Close()
	s.checkSockets(slot)
	files := []uintptr{null.Fd(), 1, 2}
	var names []string
	for _, g := range s.groups {
		files = append(files, uintptr(g.FD(slot)))
		names = append(names, g.FDName())
	}
	files = append(files, uintptr(s.lifeline.read))
	env := s.cfg.environ(s.environ, workerEnv{
		exec: cmd.Path, dir: dir, store: s.storePath, notify: notify.Name(), slot: slot, lifeline: len(files) - 1, names: names,
		maxRequests: jittered(s.cfg.MaxRequests, s.cfg.Jitter),
	}, s.limits())
	attr := &syscall.ProcAttr{Env: env, Files: files, Dir: dir}
	rel := s.releases.Of(cmd.Path, dir)
	if len(s.cfg.Command) > 0 {
		attr.Sys = ownGroup()
	}
	pid, err := syscall.ForkExec(step, cmd.Args, attr)
	if err != nil {
		notify.Close()
		return nil, fmt.Errorf("master: start a worker: %w", err)
	}
	now := time.Now()
	p := &process{slot: slot, pid: pid, epoch: s.epoch, rollout: s.rolloutOf(dir), release: rel, state: starting,
		started: now, readyFrom: now, beat: now, notify: notify}
	p.leads, p.start = attr.Sys != nil, proc.Start(pid)
	if age := jittered(s.cfg.MaxAge, s.cfg.Jitter); age > 0 {
		p.recycleAt = now.Add(age)
	}
	s.follow(p)
	s.log.Debug("worker started", "slot", slot, "pid", pid)
	return p, nil
}

// follow has what the process says heard, and its end noticed.
func (s *supervisor) follow(p *process) {
	s.processes[p.pid] = p
	p.notifyEnded = false
	p.notify.Start()
	go p.notify.Run(p.pid, func(m sdnotify.Message) { s.messages <- message{p, m} })
}

// id returns attributes that name the process.
func (p *process) id() slog.Attr { return slog.Group("", "slot", p.slot, "pid", p.pid) }
