package master

import (
	"errors"
	"fmt"
	"time"

	"os"
	"path/filepath"
	"slices"

	"github.com/onescrape/onescrape/master/internal/release"
)

// rolling is a rolling restart: the slots one after the other. The first successor that fails ends it.
type rolling struct {
	record *Rollout
	began  time.Time
	queue  []*slot // still to do
	now    *replacement
	last   *process // the worker that was installed last
	broken error    // how a new worker that was installed ended

	// What it installs, noted when its first successor starts.
	program string // the path; "": not noted yet
	file    release.File
	dir     string
}

func (s *supervisor) newRollout(kind string) *rolling {
	s.Rollout = &Rollout{ID: s.rolloutID() + 1, Kind: kind, State: running, Total: len(s.slots)}
	s.log.Info("rolling restart begins", "rollout", s.Rollout.ID, "kind", kind, "workers", len(s.slots))
	return s.roll(s.Rollout, s.loop.Now())
}

func (s *supervisor) rolloutID() int {
	if s.Rollout == nil {
		return 0
	}
	return s.Rollout.ID
}

func (s *supervisor) roll(record *Rollout, began time.Time) *rolling {
	return &rolling{record: record, began: began, queue: append([]*slot(nil), s.slots...)}
}

func (r *rolling) step(s *supervisor, now time.Time) bool {
	for {
		if r.broken != nil {
			r.end(s, r.broken)
			return true
		}
		if r.now == nil {
			if len(r.queue) == 0 {
				if !r.lastSettled(s, now) {
					return false
				}
				r.end(s, nil)
				return true
			}
			r.now = &replacement{slot: r.queue[0], reason: r.record.Kind, roll: r}
			r.queue = r.queue[1:]
		}
		over, err := r.now.advance(s, now)
		if err != nil {
			r.end(s, fmt.Errorf("slot %d: %w", r.now.slot.number, r.explained(s, err)))
			return true
		}
		if !over {
			return false
		}
		r.record.Done++
		r.last = r.now.fresh
		s.log.Info("worker replaced", "slot", r.now.slot.number, "rollout", r.record.ID, "done", r.record.Done, "of",
			r.record.Total)
		r.now = nil
	}
}

// explained adds to the error of a successor that its program is being replaced, which may be all that is wrong: a program that is
// written to cannot be executed.
func (r *rolling) explained(s *supervisor, err error) error {
	if r.program == "" || errors.As(err, new(*release.ChangedError)) {
		return err
	}
	if changed := r.stands(s); changed != nil {
		return fmt.Errorf("%w; %w", err, changed)
	}
	return err
}

// noteEnd notes the end of a process. The first worker of the new release that ends with an error ends the rollout,
// however long after READY=1. That is also true of a worker that took the place of another one of the new release.
func (r *rolling) noteEnd(p *process) {
	if r.broken != nil || p.rollout != r.record.ID || r.now != nil && p == r.now.fresh {
		return // advance looks at the last one itself
	}
	if p.erred() {
		r.broken = fmt.Errorf("slot %d: %w", p.Slot, p.died())
	}
}

// lastSettled reports whether the worker that was installed last has settled. Where READY=1 alone is not trusted, the
// rollout is over only then.
func (r *rolling) lastSettled(s *supervisor, now time.Time) bool {
	return s.cfg.ReadySettle == 0 || r.last == nil || r.last.end.gone || s.loop.Due(r.last.ReadyAt.Add(settled), now)
}

func (r *rolling) end(s *supervisor, err error) {
	if r.record.State != running {
		return
	}
	r.record.State = done
	if err == nil && r.program != "" {
		s.Dir = r.dir
	}
	if err != nil {
		r.record.State, r.record.Error = abandoned, err.Error()
		if r.now != nil {
			r.now.cancel(s)
		}
		s.log.Error("rolling restart abandoned: the workers that were not replaced go on as they are", "rollout", r.record.ID,
			"done", r.record.Done, "of", r.record.Total, "err", err)
	} else {
		s.log.Info("rolling restart done", "rollout", r.record.ID, "workers", r.record.Done,
			"took", s.loop.Now().Sub(r.began).Round(time.Millisecond))
	}
	s.metrics.Rollout(r.record.Kind, r.record.State, s.loop.Now().Sub(r.began))
}

func (r *rolling) abort(s *supervisor) { r.end(s, errors.New("the master stops")) }

// releaseOf returns the release that a worker would be started from now; nil when the program cannot be looked at.
func (s *supervisor) releaseOf(path, dir string) *release.Release {
	file, program, err := s.sys.Identify(path)
	if err != nil {
		return nil
	}
	return s.releases.Of(program, file, dir)
}

// releasesInUse returns the releases that have processes.
func (s *supervisor) releasesInUse() (out []Release) {
	used := make(map[*release.Release]bool)
	for _, p := range s.inOrder() {
		used[p.release] = true
	}
	for _, r := range s.releases.Keep(used) {
		out = append(out, Release{Release: r.Number, Program: r.Program, Changed: time.Unix(0, r.File.Changed), Dir: r.Dir})
	}
	return out
}

// prepare notes what the rollout installs, before its first successor starts.
func (r *rolling) prepare(s *supervisor) error {
	if r.program != "" {
		return r.stands(s)
	}
	dir, err := s.sys.ResolveDir(s.cfg.Chdir)
	if err != nil {
		return err
	}
	cmd, err := s.sys.FindProgram(s.cfg.Command, dir)
	if err != nil {
		return err
	}
	if r.file == (release.File{}) || len(s.cfg.Command) > 0 {
		if r.file, _, err = s.sys.Identify(cmd.Path); err != nil {
			return err
		}
	}
	r.program, r.dir = cmd.Path, dir
	return r.stands(s)
}

// stands returns an error when another release was installed since the rollout began. Nobody has checked that one, and only
// some of the workers would run it.
func (r *rolling) stands(s *supervisor) error {
	if err := stands(s.sys, r.file, r.program); err != nil {
		return fmt.Errorf("another release was installed during the rollout, reload once more: %w", err)
	}
	return nil
}

// replaced reports whether the slot has been given the rollout's release.
func (r *rolling) replaced(sl *slot) bool {
	if r.program == "" || slices.Contains(r.queue, sl) {
		return false
	}
	return r.now == nil || r.now.slot != sl || r.now.swapped
}

// dirOf returns the directory in which a worker of the slot starts. While a rollout goes on, that is the rollout's directory if
// the slot has its release already; else that of the last rollout that was done. So the release of an abandoned rollout, if it
// has a directory of its own, is not started again.
func (s *supervisor) dirOf(sl *slot) (string, error) {
	if r, ok := s.requests.op.(*rolling); ok && r.replaced(sl) {
		return r.dir, nil
	}
	if s.Dir == "" || s.sys.Exists(s.Dir) {
		return s.Dir, nil
	}
	dir, err := s.sys.ResolveDir(s.cfg.Chdir)
	if err != nil {
		return "", err
	}
	s.log.Warn("the directory of the workers is gone: they start in the one that the link leads to now", "gone", s.Dir,
		"now", dir)
	s.Dir = dir
	return dir, nil
}

// rolloutOf returns the number of the rollout that installs the release of a worker that starts now in dir; 0: no rollout does.
// Without Config.Chdir every worker gets the program that is on disk.
func (s *supervisor) rolloutOf(dir string) int {
	if r, ok := s.requests.op.(*rolling); ok && r.dir == dir {
		return r.record.ID
	}
	return 0
}

// warnOfLinkedDir warns if the working directory was reached by a link. The workers stay in the directory that the link led to,
// so switching the link deploys nothing.
func (s *supervisor) warnOfLinkedDir() {
	pwd := os.Getenv("PWD")
	here, err := os.Stat(".")
	if s.cfg.Chdir != "" || !filepath.IsAbs(pwd) || err != nil {
		return
	}
	named, err := os.Stat(pwd)
	if err != nil || !os.SameFile(here, named) {
		return
	}
	if leads, err := filepath.EvalSymlinks(pwd); err == nil && leads != filepath.Clean(pwd) {
		s.log.Warn("the working directory was reached by a link: when the link is switched to another release, workers still "+
			"start in the directory that it leads to now", "link", pwd, "leads_to", leads, "help",
			"give the link by --chdir (Config.Chdir)")
	}
}
