package aggregate

import (
	"time"

	"github.com/onescrape/onescrape/shmstore"
)

// foldWait is the wait of a fold for the lock that another process holds.
type foldWait struct {
	store *Store
	dir   string
	long  bool
}

// wait begins the wait for the lock of a directory.
func (s *Store) wait(dir string) *foldWait {
	s.waiting.Store(shmstore.Monotonic())
	return &foldWait{store: s, dir: dir}
}

// blocked says that the process pid, which may be 0, has had the lock for so long that it is likely to be stopped.
func (w *foldWait) blocked(pid int) {
	w.long = true
	w.store.log.Warn("another process holds the lock of the fold: dead processes' files stay where they are until it goes on or "+
		"ends; if it is stopped, continue or kill it", "dir", w.dir, "pid", pid)
}

// step is told of the steps of the fold. With the first one the wait is over.
func (w *foldWait) step(step string) {
	w.over()
	if w.store.foldStep != nil {
		w.store.foldStep(step)
	}
}

// over ends the wait.
func (w *foldWait) over() {
	since := w.store.waiting.Swap(0)
	if w.long && since > 0 {
		w.long = false
		w.store.log.Info("the lock of the fold is waited for no more", "dir", w.dir, "waited",
			time.Duration(shmstore.Monotonic()-since).Round(time.Millisecond))
	}
}

// blockedFor returns for how long a fold has been waiting for its lock. A wait of less than a second is a turn of another.
func (s *Store) blockedFor() time.Duration {
	since := s.waiting.Load()
	if now := shmstore.Monotonic(); since > 0 && now >= since+uint64(time.Second) {
		return time.Duration(now - since)
	}
	return 0
}
