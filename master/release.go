package master

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// release is what a worker is started from: a program in one state, and a directory. Releases are numbered in the order in
// which this master came to know them.
type release struct {
	Number  int          `json:"number"`
	Program string       `json:"program"` // with its links resolved
	File    fileIdentity `json:"file"`
	Dir     string       `json:"dir"` // "": the master's own
}

// releaseOf returns the release that a worker would be started from now; nil when the program cannot be looked at.
func (s *supervisor) releaseOf(path, dir string) *release {
	file, err := identify(path)
	if err != nil {
		return nil
	}
	program, err := filepath.EvalSymlinks(path)
	if err != nil {
		program = path
	}
	for _, r := range s.releases {
		if r.Program == program && r.File == file && r.Dir == dir {
			return r
		}
	}
	s.lastRelease++
	r := &release{Number: s.lastRelease, Program: program, File: file, Dir: dir}
	s.releases = append(s.releases, r)
	return r
}

// releasesInUse returns the releases that have processes, and forgets the others but for the newest.
func (s *supervisor) releasesInUse() (out []Release) {
	used := make(map[*release]bool)
	for _, p := range s.processes {
		used[p.release] = true
	}
	s.releases = slices.DeleteFunc(s.releases, func(r *release) bool { return !used[r] && r.Number != s.lastRelease })
	for _, r := range s.releases {
		if used[r] {
			out = append(out, Release{Release: r.Number, Program: r.Program, Changed: time.Unix(0, r.File.Changed),
				Dir: r.Dir})
		}
	}
	return out
}

// releaseNumber returns the release of that number, nil when there is none.
func (s *supervisor) releaseNumber(n int) *release {
	for _, r := range s.releases {
		if r.Number == n {
			return r
		}
	}
	return nil
}

// prepare notes what the rollout installs, before its first successor starts.
func (r *rolling) prepare(s *supervisor) error {
	if r.program != "" {
		return r.stands()
	}
	dir, err := s.cfg.resolveDir()
	if err != nil {
		return err
	}
	cmd, err := s.cfg.command(dir)
	if err != nil {
		return err
	}
	if r.file == (fileIdentity{}) || len(s.cfg.Command) > 0 {
		if r.file, err = identify(cmd.path); err != nil {
			return err
		}
	}
	r.program, r.dir = cmd.path, dir
	return r.stands()
}

// stands is an error when another release was installed since the rollout began: nobody has checked that one, and some
// workers would run it and some would not.
func (r *rolling) stands() error {
	if err := r.file.stands(r.program); err != nil {
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
	dir, err := s.cfg.resolveDir()
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

// maxLinks is how many links a path may have, as in the kernel.
const maxLinks = 40

// resolveDir returns Chdir with its links resolved, "" where there is none. A master of root refuses a link that somebody
// else could lead elsewhere: what lies there would run as root.
func (c Config) resolveDir() (string, error) {
	if c.Chdir == "" {
		return "", nil
	}
	done, todo, links := "/", strings.Split(c.Chdir, "/"), 0
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			done = filepath.Dir(done)
			continue
		}
		path := filepath.Join(done, name)
		info, err := os.Lstat(path)
		if err != nil {
			return "", fmt.Errorf("master: the workers' directory %s: %w", c.Chdir, err)
		}
		if info.Mode()&os.ModeSymlink == 0 {
			done = path
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("master: the workers' directory %s has too many links", c.Chdir)
		}
		if err := safeLink(done, path); err != nil {
			return "", fmt.Errorf("master: the workers' directory %s: %w", c.Chdir, err)
		}
		target, err := os.Readlink(path)
		if err != nil {
			return "", fmt.Errorf("master: the workers' directory %s: %w", c.Chdir, err)
		}
		if filepath.IsAbs(target) {
			done = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	if info, err := os.Stat(done); err != nil || !info.IsDir() {
		return "", fmt.Errorf("master: the workers' directory %s: %s is no directory", c.Chdir, done)
	}
	return done, nil
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
