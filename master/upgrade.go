package master

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/master/internal/bootstrap"
	"github.com/onescrape/onescrape/master/internal/endpoint"
	"github.com/onescrape/onescrape/master/internal/release"
	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/shmstore"
)

// upgrading replaces the master too. First the new program is run in check mode; if it would run, it is executed in
// this process, with everything that the master holds, and rolls the workers. If it would not, everything goes on as
// it was.
type upgrading struct {
	record *Rollout
	began  time.Time
	cancel context.CancelFunc
	result chan checkResult // has room for one
	checks int              // how many were begun
	file   release.File     // what was checked
	halted *halting         // nil until the check was passed
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
	u := &upgrading{began: time.Now(), result: make(chan checkResult, 1)}
	s.rollout = &Rollout{ID: s.rolloutID() + 1, Kind: "upgrade", State: running, Total: len(s.slots)}
	u.record = s.rollout
	s.log.Info("upgrade begins with a check of the new program", "rollout", u.record.ID, "program", release.Own().Path)
	u.check(s)
	return u
}

// check begins a check of the program.
func (u *upgrading) check(s *supervisor) {
	ctx, cancel := context.WithTimeout(context.Background(), max(s.cfg.ReadyTimeout, minCheck))
	u.cancel = cancel
	u.checks++
	go func() {
		defer cancel()
		file, _ := release.Identify(release.Own().Path) // if there is none, check says so
		u.result <- checkResult{file, release.Check(ctx, masterEnv(), checkEnv, checkAnswer)}
		s.checked <- struct{}{}
	}()
}

func (u *upgrading) step(s *supervisor, now time.Time) bool {
	if u.halted == nil {
		select {
		case result := <-u.result:
			u.file = result.file
			err := result.err
			if err == nil {
				err = s.canHandOver(u.file)
			}
			if err != nil {
				return u.failed(s, err)
			}
			s.log.Info("the new program has passed the check: scrapes that are being answered come to their end",
				"rollout", u.record.ID)
			u.halted = s.halt()
		default:
			return false
		}
	}
	if !u.halted.over {
		return false
	}
	return u.failed(s, s.handOver(u))
}

// failed acts on what is wrong with the new program, and reports whether the upgrade is over: one that has changed since
// its check began is checked again.
func (u *upgrading) failed(s *supervisor, err error) (over bool) {
	u.halted = nil
	var changed *release.ChangedError
	if errors.As(err, &changed) && s.phase == serving && u.checks < maxChecks {
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
	s.counters.rollout(u.record.Kind, u.record.State, time.Since(u.began))
}

// checkAnswer is what a program says that would run.
var checkAnswer = fmt.Sprintf("onescrape would run, handover %d\n", handoverVersion)

// answerCheck ends a program that is only checked.
func answerCheck(cfg Config, function bool) error {
	fd := number(os.Getenv(checkEnv))
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

// masterEnv returns the environment of a program that becomes the master in this process. It does not name the store: a
// master writes no metrics, and its metrics would open a file in the store before Run is called.
func masterEnv() []string {
	var out []string
	for _, e := range os.Environ() {
		key, _, _ := strings.Cut(e, "=")
		if key == "NOTIFY_SOCKET" || key == "WATCHDOG_USEC" || key == "WATCHDOG_PID" || !ours[key] {
			out = append(out, e)
		}
	}
	return out
}

// ignoredSignals are those that the exec must neither lose nor die of, as far as it can be had: a Go program unblocks
// HUP, INT, TERM and QUIT when it starts, before it has handlers, so those that can be lost are ignored; the roll
// that follows covers a HUP. TERM and QUIT end the master in those milliseconds, and its workers drain: the stop that
// was asked for.
var ignoredSignals = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTTIN, syscall.SIGTTOU}

// canHandOver says why the new program cannot be executed, or could not go on.
func (s *supervisor) canHandOver(checked release.File) error {
	path, err := exec.LookPath(release.Own().Path)
	if err != nil {
		return fmt.Errorf("the new program is not there: %w", err)
	}
	if err := s.storeStands(); err != nil {
		return fmt.Errorf("the new program could not go on with the store, restart the service: %w", err)
	}
	return checked.Stands(path)
}

// handOver executes the new program in this process, if it is still the file that was checked. It returns only if that
// could not be; everything then goes on.
func (s *supervisor) handOver(u *upgrading) error {
	path, err := exec.LookPath(release.Own().Path)
	if err != nil {
		s.resume()
		return fmt.Errorf("the new program is not there: %w", err)
	}
	s.pauseListening()
	resume := func() {
		signal.Notify(s.signals, bootstrap.Watched...)
		for _, p := range s.processes {
			if !p.gone {
				s.follow(p)
			}
		}
		s.resume()
	}
	s.reap()
	s.publish(time.Now())

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signal.Ignore(ignoredSignals...)
	signal.Reset(syscall.SIGTERM, syscall.SIGQUIT)
	unblock := blockSignals(syscall.SIGUSR1, syscall.SIGUSR2)
	defer unblock()
	for {
		select {
		case sig := <-s.signals:
			s.signaled(sig)
			continue
		default:
		}
		break
	}
	if s.phase != serving {
		resume()
		return errors.New("the master stops")
	}

	// No other goroutine may fork while descriptors are open to an exec.
	syscall.ForkLock.Lock()
	kept := &handedOver{}
	state := s.describe(kept, u)
	state.Checked = u.file
	fd, err := stateFile(marshal(state))
	if err = errors.Join(kept.err, err); err == nil {
		kept.copies = append(kept.copies, fd)
		// Nothing stands between this look and the exec.
		err = u.file.Stands(path)
	}
	if err == nil {
		err = syscall.Exec(path, release.Own().Args, append(masterEnv(), fmt.Sprintf("%s=%d", bootstrap.HandoverEnv, fd)))
	}
	kept.undo()
	syscall.ForkLock.Unlock()
	resume()
	return fmt.Errorf("the new program cannot be executed: %w", err)
}

// storeStands is an error when a master that is executed now could not open the store, or would find another one in its
// place: somebody has removed it or changed its mode. This one goes on with what it has open.
func (s *supervisor) storeStands() error {
	if s.store == nil {
		return errors.New(s.storeWatch.trouble)
	}
	d, err := shmstore.OpenDir(s.storePath, shmstore.DirOptions{})
	if err != nil {
		return err
	}
	defer d.Close()
	_, err = d.AdoptMaster(s.lock.File())
	return err
}

// pauseListening ends the readers of the notify sockets, with all that they have read heard. What comes later stays
// in the sockets.
func (s *supervisor) pauseListening() {
	n := 0
	for _, p := range s.processes {
		if p.notifyEnded {
			continue
		}
		n++
		p.notify.Finish()
	}
	for n > 0 {
		notice := <-s.messages
		if notice.Over {
			n--
		}
		s.handle(notice)
	}
}

// adopt goes on where the master before this one in the same process stopped.
func (s *supervisor) adopt(h *handover) (err error) {
	now := time.Now()
	release.SetOwnPath(h.Program)
	if h.StoreEnv != "" {
		os.Setenv("ONESCRAPE_DIR", h.StoreEnv)
	}
	if s.cfg.Store != "" && s.cfg.Store != h.Store {
		s.log.Warn("an upgrade cannot change the store: restart the service for that", "store", h.Store,
			"wanted", s.cfg.Store)
	}
	if s.store, err = shmstore.OpenDir(h.Store, shmstore.DirOptions{}); err != nil {
		return err
	}
	s.storePath = s.store.Path()
	unix.CloseOnExec(h.Lock)
	if s.lock, err = s.store.AdoptMaster(os.NewFile(uintptr(h.Lock), "lock")); err != nil {
		return err
	}
	_, last, _ := s.store.Master()
	s.counters = newCounters(last, s.log)
	s.counters.logBefore += uint64(h.LogLost)
	unix.CloseOnExec(h.Lifeline[0])
	unix.CloseOnExec(h.Lifeline[1])
	s.lifeline = lifeline{read: h.Lifeline[0], write: h.Lifeline[1]}
	s.started, s.notifies, s.allReadyOnce, s.anyReadyOnce = h.Started, h.Speaks, h.Ever, h.Ever
	for _, n := range h.Parked {
		s.park(n)
	}
	s.adoptRemnants(h.Remnants)
	s.dir, s.releases = s.adoptedDir(h), release.NewList(h.Releases, h.LastRelease)
	s.epoch, s.rollout, s.upgrade = h.Epoch+1, h.Rollout, h.Upgrade
	// A number that was changed by TTIN and TTOU stays, unless the configuration says another than before.
	if s.cfg.Workers == h.Configured {
		s.target = h.Target
	}
	if err := s.openMerged(); err != nil {
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
		s.rollout = h.Rollout
	}
	roll := s.roll(s.rollout, began)
	roll.file = h.Checked // of this program; prepare notes a command itself
	s.op = roll
	if err := s.adoptAddresses(h); err != nil {
		roll.end(s, err)
		s.op = nil
	}
	if err := s.endpoint.Start(); err != nil {
		return err
	}
	s.log.Info("master upgraded", "pid", os.Getpid(), "version", version, "workers", s.target, "listen", s.addressTexts(),
		"metrics", s.endpoint.Address(), "took", time.Since(began).Round(time.Millisecond),
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
	dir, err := release.ResolveDir(s.cfg.Chdir)
	if err != nil {
		s.log.Error("the workers start where the master is", "err", err)
	}
	return dir
}

// adoptEndpoint goes on with the metrics port, or with another one if the configuration names one that can be had.
func (s *supervisor) adoptEndpoint(h *handover) (err error) {
	if h.Metrics >= 0 {
		unix.CloseOnExec(h.Metrics)
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
		unix.Close(h.Metrics)
	}
	return err
}

// adoptWorkers goes on with the slots and their processes.
func (s *supervisor) adoptWorkers(h *handover, now time.Time) error {
	for i, ss := range h.Slots {
		sl := &slot{number: i, restarts: ss.Restarts, lastExit: ss.LastExit, started: ss.Started, failures: ss.Failures,
			errors: ss.Errors, suspect: ss.Suspect, retryAt: ss.RetryAt}
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
			unix.Close(ps.Notify)
			continue
		}
		if _, err := s.adoptProcess(ps, h.Executed, now); err != nil {
			return err
		}
	}
	return nil
}

// adoptAddresses goes on with the addresses of the new configuration: those that there were keep their sockets,
// others are opened, and those that are no more are closed when the last worker that was started with them has gone.
// When one cannot be opened, everything stays as it was, and the workers are not replaced.
func (s *supervisor) adoptAddresses(h *handover) error {
	var had []*reuseport.Group
	for _, gs := range h.Groups {
		g, err := reuseport.Adopt(gs)
		if err != nil {
			return err
		}
		had = append(had, g)
	}
	s.groups = had
	if len(s.cfg.Listen) == 0 {
		return nil
	}
	var groups, opened []*reuseport.Group
	taken := make(map[*reuseport.Group]bool)
	undo := func(err error) error {
		for _, g := range opened {
			g.Close()
		}
		return err
	}
next:
	for _, text := range s.cfg.Listen {
		a, err := s.cfg.address(text)
		if err != nil {
			return undo(err)
		}
		for _, g := range had {
			if !taken[g] && g.Spec() == a.Spec() {
				taken[g] = true
				if err := g.Reconfigure(a); err != nil {
					return undo(err)
				}
				groups = append(groups, g)
				continue next
			}
		}
		g, err := s.openWhenFree(a)
		if err != nil {
			return undo(err)
		}
		opened = append(opened, g)
		groups = append(groups, g)
		for _, sl := range s.slots {
			if err := g.Add(sl.number); err != nil {
				return undo(err)
			}
		}
	}
	s.groups, s.steered = groups, nil
	for _, g := range had {
		if !taken[g] {
			s.removedAddresses = append(s.removedAddresses, g)
		}
	}
	return nil
}

// leave closes the addresses that the configuration no longer has, when nobody is left who was started with them.
func (s *supervisor) leave() {
	if len(s.removedAddresses) == 0 {
		return
	}
	for _, p := range s.processes {
		if p.epoch < s.epoch {
			return
		}
	}
	for _, g := range s.removedAddresses {
		s.log.Info("address closed", "address", g.Where())
		g.Close()
	}
	s.removedAddresses = nil
}
