package master

import "time"

// storeWatch looks whether the path of the store still names the directory that the master has open. The control
// goroutine owns it.
type storeWatch struct {
	lookAt  time.Time
	looking bool
	trouble string // what was wrong at the last look
}

// watchStore looks once a second. A worker that starts opens the store by its path: while that names another directory,
// no scrape has what the worker counts.
func (s *supervisor) watchStore(now time.Time) {
	if s.storeWatch.looking || !s.due(s.storeWatch.lookAt, now) {
		return
	}
	s.storeWatch.looking = true
	s.background(func() func() {
		finish := s.lookAtStore()
		return func() {
			s.storeWatch.looking = false
			s.storeWatch.lookAt = time.Now().Add(lookInterval)
			finish()
		}
	})
}

// lookAtStore looks whether the store is in place, or tries to make the one that there was no space for.
func (s *supervisor) lookAtStore() (finish func()) {
	if s.store == nil {
		return s.retryStore()
	}
	err := s.store.Stands()
	return func() { s.noteStore(err) }
}

// noteStore logs and counts a store that has just gone, and logs that it is there again.
func (s *supervisor) noteStore(err error) {
	before := s.storeWatch.trouble
	s.storeWatch.trouble = ""
	if err != nil {
		s.storeWatch.trouble = err.Error()
	}
	switch {
	case err != nil && before == "":
		s.counters.storeMoved()
		s.log.Error("the store is no longer at its path: workers that start now write elsewhere, and no scrape has what they "+
			"count", "store", s.storePath, "err", err, "help", "put the directory back, or restart the service")
	case err == nil && before != "":
		s.log.Info("the store is at its path again", "store", s.storePath)
	}
}
