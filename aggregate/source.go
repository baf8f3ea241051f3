package aggregate

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/foreign"
)

// reader is the file of a process, whoever wrote it: *shmstore.Reader, whose methods say what these do, and
// *foreign.Reader.
type reader interface {
	Info() shmstore.Info
	State() (shmstore.State, error)
	Alive() (bool, error)
	Refresh() error
	Families() []shmstore.Family
	Series() []shmstore.SeriesInfo
	Layout() uint64
	Read(fn func(words []uint64)) error
	ReadStable(fn func(i int, cells []uint64)) error
}

// What else only files of ours have is asked for through these.

// own returns the reader of a file of ours, nil of others.
func own(r reader) *shmstore.Reader {
	o, _ := r.(*shmstore.Reader)
	return o
}

// releases returns up to which number a process has released series.
func releases(r reader) uint64 {
	if o := own(r); o != nil {
		return o.Releases()
	}
	return 0
}

// view is a directory as a pass sees it: *shmstore.View, whose methods say what these do, and *foreign.View.
type view interface {
	Update() error
	Archive() *shmstore.Archive
	Broken() map[string]error
	BrokenVersion() uint64
	Current() bool
	Close() error
}

// source is one directory in the plan.
type source struct {
	view
	path     string
	archived archived
	unlisted bool // the directory could not be listed
	compacts *foreign.Dir

	problems      map[string]string // reasons why files that were never read are left out, by name
	brokenVersion uint64            // when problems were found

	wasListed bool // it could be, once
}

// readers returns the files that count beside the archive.
func (s *source) readers() []reader {
	if v, ok := s.view.(*foreign.View); ok {
		return readersOf(v.Readers())
	}
	return readersOf(s.view.(*shmstore.View).Readers())
}

// readNew reads files that are new in the source, where that is quicker than one after the other.
func (s *source) readNew() {
	if v, ok := s.view.(*shmstore.View); ok {
		v.ReadNew()
	}
}

// keepDeleted is View.KeepDeleted, of files in which something can be deleted.
func (s *source) keepDeleted(keep bool) {
	if v, ok := s.view.(*shmstore.View); ok {
		v.KeepDeleted(keep)
	}
}

func readersOf[R reader](from []R) []reader {
	all := make([]reader, len(from))
	for i, r := range from {
		all[i] = r
	}
	return all
}

// forget closes a reader of the source, whose file the next pass opens afresh.
func (s *source) forget(r reader) {
	if v, ok := s.view.(*foreign.View); ok {
		v.Forget(r.(*foreign.Reader))
		return
	}
	s.view.(*shmstore.View).Forget(own(r))
}

// openSources returns the sources of a Store: its own directory, if it has one, then the foreign ones.
func (s *Store) openSources() error {
	if s.dir != nil {
		s.sources = append(s.sources, &source{view: s.dir.View(), path: s.dir.Path(), problems: map[string]string{}})
	}
	given := map[string]bool{}
	for _, d := range s.options.Foreign {
		path := d.Path()
		if resolved, err := filepath.EvalSymlinks(path); err == nil {
			path = resolved
		}
		if given[path] {
			return fmt.Errorf("aggregate: %s is given twice and would count twice", d.Path())
		}
		given[path] = true
		src := &source{view: d.View(), path: d.Path(), problems: map[string]string{}}
		if d.Compacts() && !s.options.ReadOnly {
			src.compacts = d
		}
		s.sources = append(s.sources, src)
	}
	if len(s.sources) == 0 {
		return errors.New("aggregate: open a store: the path is empty")
	}
	return nil
}
