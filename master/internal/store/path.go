package store

import (
	"errors"
	"time"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore"
)

// watch is what Watch knows.
type watch struct {
	lookAt  time.Time
	looking bool
	trouble string // what was wrong at the last look
}

// lookInterval is how often Watch looks.
const lookInterval = time.Second

// Trouble says that the store was renamed, removed or replaced while the master had it open, or that it could not be made yet; ""
// when it is in place.
func (s *Store) Trouble() string { return s.watch.trouble }

// Watch looks once a second, in the background, whether the path of the store still names the directory that the master has open,
// or tries to make the store that there was no space for. A worker that starts opens the store by its path: while that names
// another directory, no scrape has what the worker counts.
func (s *Store) Watch(now time.Time) {
	if s.watch.looking || !s.cfg.Loop.Due(s.watch.lookAt, now) {
		return
	}
	s.watch.looking = true
	s.cfg.Loop.Background(func() func() {
		finish := s.look()
		return func() {
			s.watch.looking = false
			s.watch.lookAt = s.cfg.Loop.Now().Add(lookInterval)
			finish()
		}
	})
}

func (s *Store) look() (finish func()) {
	if s.opened.dir == nil {
		return s.retry()
	}
	err := s.opened.dir.Stands()
	return func() { s.note(err) }
}

// note logs and counts a store that has just gone, and logs that it is there again.
func (s *Store) note(err error) {
	before := s.watch.trouble
	s.watch.trouble = ""
	if err != nil {
		s.watch.trouble = err.Error()
	}
	switch {
	case err != nil && before == "":
		s.metrics.StoreMoved()
		s.cfg.Log.Error("the store is no longer at its path: workers that start now write elsewhere, and no scrape has what they "+
			"count", "store", s.path, "err", err, "help", "put the directory back, or restart the service")
	case err == nil && before != "":
		s.cfg.Log.Info("the store is at its path again", "store", s.path)
	}
}

// retry tries again, in the background, to make the store for which there was no space.
func (s *Store) retry() (finish func()) {
	o, _, err := open(s.path)
	var merged *aggregate.Store
	if err == nil {
		if merged, err = s.openMerged(o.dir.Path()); err != nil {
			o.close()
		}
	}
	return func() {
		switch {
		case err == nil && s.cfg.Stopping():
			merged.Close()
			o.close()
		case err == nil:
			s.take(o, merged)
		case errors.Is(err, shmstore.ErrFull):
			s.watch.trouble = noSpace
		case s.watch.trouble != err.Error():
			s.watch.trouble = err.Error()
			s.cfg.Log.Error("the store cannot be made: the service runs on without it", "store", s.path, "err", err)
		}
	}
}

// take goes on with a store that there was no space for until now.
func (s *Store) take(o opened, merged *aggregate.Store) {
	folded, before := s.StopFold(), s.scraped.Load().merged
	s.use(o)
	s.show(merged)
	s.StartFold()
	if before != nil {
		go func() {
			<-folded
			before.Close()
		}()
	}
	s.watch.trouble = ""
	s.cfg.Log.Info("there is space for the store now: workers that start from now on use it", "store", s.path,
		"help", "a reload replaces those that do not")
}
