package master

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/onescrape/onescrape/master/internal/release"
)

// releasesInUse returns the releases that have processes.
func (s *supervisor) releasesInUse() (out []Release) {
	used := make(map[*release.Release]bool)
	for _, p := range s.processes {
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
		return r.stands()
	}
	dir, err := release.ResolveDir(s.cfg.Chdir)
	if err != nil {
		return err
	}
	cmd, err := release.Find(s.cfg.Command, dir)
	if err != nil {
		return err
	}
	if r.file == (release.File{}) || len(s.cfg.Command) > 0 {
		if r.file, err = release.Identify(cmd.Path); err != nil {
			return err
		}
	}
	r.program, r.dir = cmd.Path, dir
	return r.stands()
}

// stands is an error when another release was installed since the rollout began: nobody has checked that one, and some
// workers would run it and some would not.
func (r *rolling) stands() error {
	if err := r.file.Stands(r.program); err != nil {
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

// dirOf returns the directory in which a worker of the slot starts: of the rollout that gave the slot its release, while
// that goes on, else of the last rollout that was done. So where a release lies in a directory of its own, what a rollout
// that was abandoned had installed is not started again.
func (s *supervisor) dirOf(sl *slot) (string, error) {
	if r, ok := s.op.(*rolling); ok && r.replaced(sl) {
		return r.dir, nil
	}
	if _, err := os.Stat(s.dir); s.dir == "" || err == nil {
		return s.dir, nil
	}
	dir, err := release.ResolveDir(s.cfg.Chdir)
	if err != nil {
		return "", err
	}
	s.log.Warn("the directory of the workers is gone: they start in the one that the link leads to now", "gone", s.dir,
		"now", dir)
	s.dir = dir
	return dir, nil
}

// rolloutOf returns the number of the rollout whose release a worker gets that starts now in the directory; 0 when there is
// none. Without a directory of its own every worker gets what is on disk.
func (s *supervisor) rolloutOf(dir string) int {
	if r, ok := s.op.(*rolling); ok && r.dir == dir {
		return r.record.ID
	}
	return 0
}

// warnOfLinkedDir says that the workers stay in the directory that this process was started in, where that was reached by
// a link: a deployment by that link reaches none of them.
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
