// Package release knows what workers are started from: programs on disk in a certain state, and the directories that they start
// in. It also runs a program in check mode before a master executes it.
package release

import (
	"slices"
)

// Release is what a worker is started from: a program in one state, and a directory. Releases are numbered in the order in which
// a master came to know them.
type Release struct {
	Number  int    `json:"number"`
	Program string `json:"program"` // with its links resolved
	File    File   `json:"file"`
	Dir     string `json:"dir"` // "": the master's own
}

// List has the releases of a master. The zero value is empty. The control goroutine owns it.
type List struct {
	all  []*Release
	last int // the highest number that was given
}

// NewList goes on from what another List returned.
func NewList(all []*Release, last int) List { return List{all: all, last: last} }

// All returns the releases in the order of their numbers, and the highest number that was given.
func (l *List) All() (all []*Release, last int) { return l.all, l.last }

// Of returns the release of a program, named by its path without links, in that state, for workers that start in dir.
func (l *List) Of(program string, file File, dir string) *Release {
	for _, r := range l.all {
		if r.Program == program && r.File == file && r.Dir == dir {
			return r
		}
	}
	l.last++
	r := &Release{Number: l.last, Program: program, File: file, Dir: dir}
	l.all = append(l.all, r)
	return r
}

// Number returns the release of that number; nil when there is none.
func (l *List) Number(n int) *Release {
	for _, r := range l.all {
		if r.Number == n {
			return r
		}
	}
	return nil
}

// Keep forgets the releases that are not used, except the newest, and returns those that are.
func (l *List) Keep(used map[*Release]bool) (out []*Release) {
	l.all = slices.DeleteFunc(l.all, func(r *Release) bool { return !used[r] && r.Number != l.last })
	for _, r := range l.all {
		if used[r] {
			out = append(out, r)
		}
	}
	return out
}
