package master

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/onescrape/onescrape/master/internal/bootstrap"
	"github.com/onescrape/onescrape/master/internal/environment"
	"github.com/onescrape/onescrape/master/internal/release"
	"github.com/onescrape/onescrape/master/internal/system"
)

// upgrading replaces the master too. First the new program is run in check mode; if it would run, it is executed in
// this process, with everything that the master holds, and rolls the workers. If it would not, everything goes on as
// it was.
type upgrading struct {
	record *Rollout
	began  time.Time
	cancel context.CancelFunc
	result *checkResult // nil while the check goes on
	checks int          // how many were begun
	file   release.File // what was checked
	halted *halting     // nil until the check was passed
}

// checkResult is what came of a check, of the file that the program was when the check began.
type checkResult struct {
	file release.File
	err  error
}

// maxChecks is how often a program that changes while it is checked, or after, is checked again.
const maxChecks = 5

// minCheck is how long the check of the new program may take at least: the ready timeout may be very short where it is what
// makes a server ready that does not say so itself.
const minCheck = 10 * time.Second

func (s *supervisor) newUpgrade() *upgrading {
	u := &upgrading{began: s.loop.Now()}
	s.Rollout = &Rollout{ID: s.rolloutID() + 1, Kind: "upgrade", State: running, Total: len(s.slots)}
	u.record = s.Rollout
	s.log.Info("upgrade begins with a check of the new program", "rollout", u.record.ID, "program", release.Own().Path)
	u.check(s)
	return u
}

// check begins a check of the program.
func (u *upgrading) check(s *supervisor) {
	ctx, cancel := context.WithTimeout(context.Background(), max(s.cfg.ReadyTimeout, minCheck))
	u.cancel = cancel
	u.checks++
	u.result = nil
	s.loop.Background(func() func() {
		defer cancel()
		file, _, _ := s.sys.Identify(release.Own().Path) // if there is none, Check says so
		result := &checkResult{file, s.sys.Check(ctx, environment.Master(os.Environ()), environment.Check, checkAnswer)}
		return func() { u.result = result }
	})
}

func (u *upgrading) step(s *supervisor, now time.Time) bool {
	if u.halted == nil {
		if u.result == nil {
			return false
		}
		u.file = u.result.file
		err := u.result.err
		if err == nil {
			err = s.canHandOver(u.file)
		}
		if err != nil {
			return u.failed(s, err)
		}
		s.log.Info("the new program has passed the check: scrapes that are being answered come to their end",
			"rollout", u.record.ID)
		u.halted = s.halt()
	}
	if !u.halted.over {
		return false
	}
	return u.failed(s, s.handOver(u))
}

// failed acts on what is wrong with the new program, and reports whether the upgrade is over. A program that has changed since
// its check began is checked again.
func (u *upgrading) failed(s *supervisor, err error) (over bool) {
	u.halted = nil
	var changed *release.ChangedError
	if errors.As(err, &changed) && s.shutdown.phase == serving && u.checks < maxChecks {
		s.log.Warn("the new program has changed on disk since its check began: it is checked again", "program", changed.Path)
		u.check(s)
		return false
	}
	u.end(s, err)
	return true
}

func (u *upgrading) abort(s *supervisor) {
	u.cancel()
	if u.halted != nil {
		s.resume()
	}
	u.end(s, errors.New("the master stops"))
}

func (u *upgrading) end(s *supervisor, err error) {
	if u.record.State != running {
		return // ended by a stop already
	}
	u.record.State, u.record.Error = abandoned, err.Error()
	s.log.Error("upgrade abandoned: master and workers go on as they are", "rollout", u.record.ID, "err", err)
	s.metrics.Rollout(u.record.Kind, u.record.State, s.loop.Now().Sub(u.began))
}

// checkAnswer is what a program says that would run.
var checkAnswer = fmt.Sprintf("onescrape would run, handover %d\n", handoverVersion)

// answerCheck ends a program that is only checked.
func answerCheck(cfg Config, function bool) error {
	fd := number(os.Getenv(environment.Check))
	cfg, err := cfg.complete(function)
	if err == nil {
		err = cfg.trial()
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "check")
	if _, err := f.WriteString(checkAnswer); err != nil {
		return fmt.Errorf("master: answer a check: %w", err)
	}
	os.Exit(0)
	return nil
}

// canHandOver says why the new program cannot be executed, or could not go on.
func (s *supervisor) canHandOver(checked release.File) error {
	program, err := s.sys.FindProgram(nil, "")
	if err != nil {
		return err
	}
	if err := s.store.CanHandOver(); err != nil {
		return fmt.Errorf("the new program could not go on with the store, restart the service: %w", err)
	}
	return stands(s.sys, checked, program.Path)
}

// handOver executes the new program in this process, if it is still the file that was checked. It returns only if that failed,
// and everything then goes on as before.
func (s *supervisor) handOver(u *upgrading) error {
	program, err := s.sys.FindProgram(nil, "")
	if err != nil {
		s.resume()
		return err
	}
	s.pauseListening()
	resume := func() {
		for _, p := range s.inOrder() {
			if !p.end.gone {
				s.follow(p)
			}
		}
		s.resume()
	}
	s.reap()
	s.publish(s.loop.Now())

	defer s.sys.HoldSignals(s.events.signals)()
	s.takeSignals()
	if s.shutdown.phase != serving {
		resume()
		return errors.New("the master stops")
	}

	// No other goroutine may fork while descriptors are open to an exec.
	unlock := s.sys.HoldForks()
	kept := &handedOver{sys: s.sys}
	state := s.describe(kept, u)
	fd, err := s.sys.StateFile(marshal(state))
	if err = errors.Join(kept.err, err); err == nil {
		kept.copies = append(kept.copies, fd)
		// Nothing stands between this look and the exec.
		err = stands(s.sys, u.file, program.Path)
	}
	if err == nil {
		err = s.sys.Execute(program.Path, program.Args, append(environment.Master(os.Environ()), fmt.Sprintf("%s=%d", bootstrap.HandoverEnv, fd)))
	}
	kept.undo()
	unlock()
	resume()
	return fmt.Errorf("the new program cannot be executed: %w", err)
}

// takeSignals acts on the signals that have come.
func (s *supervisor) takeSignals() {
	for {
		select {
		case sig := <-s.events.signals:
			s.signaled(sig)
		default:
			return
		}
	}
}

// pauseListening ends the readers of the notify sockets and handles everything that they have read. What comes later stays in
// the sockets.
func (s *supervisor) pauseListening() {
	n := 0
	for _, p := range s.inOrder() {
		if p.end.handled {
			continue
		}
		n++
		p.notify.Finish()
	}
	for n > 0 {
		var notice message
		s.sys.Wait(func() { notice = <-s.events.messages })
		if notice.Over {
			n--
		}
		s.handle(notice)
	}
}

// number returns a decimal number, 0 for anything else.
func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// stands returns an error when a path does not lead to the file any more in the state in which it was.
func stands(sys system.System, file release.File, path string) error {
	now, _, err := sys.Identify(path)
	if err != nil {
		return err
	}
	if now != file {
		return &release.ChangedError{Path: path}
	}
	return nil
}
