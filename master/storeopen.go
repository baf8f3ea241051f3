package master

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/master/internal/endpoint"
	"github.com/onescrape/onescrape/shmstore"
)

// openedStore is a store that this process supervises.
type openedStore struct {
	dir  *shmstore.Dir
	lock *shmstore.Lock
	last []byte // the status that the last master left
}

// openForMaster opens the store, or makes it, and takes the master's lock. shmstore.ErrFull: there is no space for it.
func openForMaster(path string) (o openedStore, err error) {
	if o.dir, err = shmstore.OpenDir(path, shmstore.DirOptions{Create: true}); err != nil {
		return openedStore{}, err
	}
	// What the last master left must be read before the lock is taken: the lock is the next master's, and so is the text.
	_, o.last, _ = o.dir.Master()
	if o.lock, err = o.dir.LockMaster(); err != nil {
		o.dir.Close()
		return openedStore{}, err
	}
	return o, nil
}

func (o openedStore) close() {
	o.lock.Close()
	o.dir.Close()
}

// beginStore opens the store for a master that starts. Without space for it the service runs without a store; watchStore
// tries again.
func (s *supervisor) beginStore(path string) error {
	opened, err := openForMaster(path)
	switch {
	case errors.Is(err, shmstore.ErrFull):
		if s.storePath, err = filepath.Abs(path); err != nil {
			return fmt.Errorf("master: open the store: %w", err)
		}
		s.storeWatch.trouble = noSpace
		s.log.Error("the file system has no space for the store: the service runs without it, workers keep their metrics in "+
			"their own memory, and no command finds this master", "store", s.storePath,
			"help", "make space; the store is made as soon as there is some, and workers that start then use it")
	case err != nil:
		return err
	default:
		s.useStore(opened)
	}
	s.counters = newCounters(opened.last, s.log)
	if s.predecessor = readPossessions(opened.last); s.predecessor != nil {
		s.counters.hold(s.lock, s.predecessor)
	}
	return nil
}

// noSpace is the trouble of a store that could not be made yet.
const noSpace = "the file system has no space for the store: metrics are in the memory of the workers"

func (s *supervisor) useStore(o openedStore) {
	s.store, s.lock, s.storePath = o.dir, o.lock, o.dir.Path()
	for _, w := range s.store.Warnings() {
		s.log.Warn(w)
	}
}

// retryStore tries again, in the background, to make the store for which there was no space.
func (s *supervisor) retryStore() (finish func()) {
	opened, err := openForMaster(s.storePath)
	var merged *aggregate.Store
	if err == nil {
		if merged, err = aggregate.Open(opened.dir.Path(), s.aggregateOptions()); err != nil {
			opened.close()
		}
	}
	return func() {
		switch {
		case err == nil && s.stopping():
			merged.Close()
			opened.close()
		case err == nil:
			s.takeStore(opened, merged)
		case errors.Is(err, shmstore.ErrFull):
			s.storeWatch.trouble = noSpace
		case s.storeWatch.trouble != err.Error():
			s.storeWatch.trouble = err.Error()
			s.log.Error("the store cannot be made: the service runs on without it", "store", s.storePath, "err", err)
		}
	}
}

// takeStore goes on with a store that there was no space for until now.
func (s *supervisor) takeStore(opened openedStore, merged *aggregate.Store) {
	folded, before := s.stopFold(), s.merged
	s.useStore(opened)
	s.setMerged(merged)
	s.startFold()
	if before != nil {
		go func() {
			<-folded
			before.Close()
		}()
	}
	s.storeWatch.trouble = ""
	s.log.Info("there is space for the store now: workers that start from now on use it", "store", s.storePath,
		"help", "a reload replaces those that do not")
}

// openMerged opens what scrapes show: the store, if there is one, and the directories of other libraries.
func (s *supervisor) openMerged() error {
	path := s.storePath
	if s.store == nil {
		path = ""
		if len(s.cfg.Foreign) == 0 {
			s.setMerged(nil)
			return nil
		}
	}
	merged, err := aggregate.Open(path, s.aggregateOptions())
	if err != nil {
		return err
	}
	s.setMerged(merged)
	return nil
}

// setMerged has scrapes show the merged store beside the master's own metrics; nil: these alone.
func (s *supervisor) setMerged(merged *aggregate.Store) {
	own := prometheus.NewRegistry()
	own.MustRegister(s.counters)
	h := promhttp.HandlerFor(own, promhttp.HandlerOpts{Timeout: endpoint.ScrapeTime})
	if merged != nil {
		h = merged.Handler(aggregate.HandlerOptions{Timeout: endpoint.ScrapeTime, Additional: own})
	}
	s.merged = merged
	s.counters.scrape(merged)
	s.scrape.Store(&h)
}

// serveScrape answers with what is scraped at the time.
func (s *supervisor) serveScrape(w http.ResponseWriter, r *http.Request) {
	(*s.scrape.Load()).ServeHTTP(w, r)
}
