// Package store is the store of a running master: it opens it and takes its lock, merges it for scrapes, folds it in the
// background, and notices when it leaves its path.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/master/internal/endpoint"
	"github.com/onescrape/onescrape/master/internal/loop"
	"github.com/onescrape/onescrape/master/internal/metrics"
	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/foreign"
)

// Config is what a Store needs to know.
type Config struct {
	Loop      *loop.Loop
	Log       *slog.Logger
	Retention time.Duration
	Foreign   []*foreign.Dir // are scraped too
	Stopping  func() bool    // reports whether no more workers are started
}

// Store is the store of a master, which there may be no space for yet. The control goroutine owns it; ServeHTTP and Totals are
// safe for concurrent use.
type Store struct {
	cfg     Config
	metrics *metrics.Metrics

	path   string
	opened opened // zero while there is no space for it
	watch  watch

	scraped atomic.Pointer[scraped]
	folding func() (over <-chan struct{}) // ends the folding; nil when there is none
}

// scraped is what scrapes show.
type scraped struct {
	merged  *aggregate.Store // nil: neither a store nor directories of other libraries
	handler http.Handler
}

// opened is a store that this process supervises.
type opened struct {
	dir  *shmstore.Dir
	lock *shmstore.Lock
}

// New returns a Store that is not open yet.
func New(cfg Config) *Store { return &Store{cfg: cfg} }

// open opens the store, or makes it, and takes the master's lock. It returns the status that the last master left.
// shmstore.ErrFull: there is no space for it.
func open(path string) (o opened, last []byte, err error) {
	if o.dir, err = shmstore.OpenDir(path, shmstore.DirOptions{Create: true}); err != nil {
		return opened{}, nil, err
	}
	// What the last master left must be read before the lock is taken: the lock is the next master's, and so is the text.
	_, last, _ = o.dir.Master()
	if o.lock, err = o.dir.LockMaster(); err != nil {
		o.dir.Close()
		return opened{}, nil, err
	}
	return o, last, nil
}

func (o opened) close() {
	if o.dir != nil {
		o.lock.Close()
		o.dir.Close()
	}
}

// Begin opens the store for a master that starts, and returns the status that the last master left. Without space for it the
// service runs without a store, and Watch tries again.
func (s *Store) Begin(path string) (last []byte, err error) {
	o, last, err := open(path)
	switch {
	case errors.Is(err, shmstore.ErrFull):
		if s.path, err = filepath.Abs(path); err != nil {
			return nil, fmt.Errorf("master: open the store: %w", err)
		}
		s.watch.trouble = noSpace
		s.cfg.Log.Error("the file system has no space for the store: the service runs without it, workers keep their metrics in "+
			"their own memory, and no command finds this master", "store", s.path,
			"help", "make space; the store is made as soon as there is some, and workers that start then use it")
	case err != nil:
		return nil, err
	default:
		s.use(o)
	}
	return last, nil
}

// Adopt goes on with the store of the master before in the same process, whose lock is open. It returns the status that it left.
func (s *Store) Adopt(path string, lock *os.File) (last []byte, err error) {
	dir, err := shmstore.OpenDir(path, shmstore.DirOptions{})
	if err != nil {
		return nil, err
	}
	l, err := dir.AdoptMaster(lock)
	if err != nil {
		return nil, err
	}
	s.opened, s.path = opened{dir, l}, dir.Path()
	_, last, _ = dir.Master()
	return last, nil
}

// noSpace is the trouble of a store that could not be made yet.
const noSpace = "the file system has no space for the store: metrics are in the memory of the workers"

func (s *Store) use(o opened) {
	s.opened, s.path = o, o.dir.Path()
	for _, w := range o.dir.Warnings() {
		s.cfg.Log.Warn(w)
	}
}

// Path returns the directory of the store, also while there is no space for it.
func (s *Store) Path() string { return s.path }

// Lock returns the lock of the master; nil while there is no store.
func (s *Store) Lock() *shmstore.Lock { return s.opened.lock }

// CheckSpace warns when the store's file system has less room than wanted.
func (s *Store) CheckSpace(wanted uint64) {
	if s.opened.dir == nil {
		return // that was said
	}
	if free, err := s.opened.dir.Free(); err == nil && free < wanted {
		s.cfg.Log.Warn("little space for the store: a worker that finds none keeps its metrics in its own memory, and they die "+
			"with it", "store", s.path, "free", free, "wanted", wanted,
			"help", "make it larger (docker run --shm-size) or name another")
	}
}

// CanHandOver returns an error when a master that is executed now could not open the store, or would find another one in its
// place: somebody has removed it or changed its mode. This one goes on with what it has open.
func (s *Store) CanHandOver() error {
	if s.opened.dir == nil {
		return errors.New(s.watch.trouble)
	}
	d, err := shmstore.OpenDir(s.path, shmstore.DirOptions{})
	if err != nil {
		return err
	}
	defer d.Close()
	_, err = d.AdoptMaster(s.opened.lock.File())
	return err
}

// OpenMerged opens what scrapes show: the store, if there is one, the directories of other libraries, and the master's own
// metrics.
func (s *Store) OpenMerged(own *metrics.Metrics) error {
	s.metrics = own
	path := s.path
	if s.opened.dir == nil {
		path = ""
		if len(s.cfg.Foreign) == 0 {
			s.show(nil)
			return nil
		}
	}
	merged, err := s.openMerged(path)
	if err != nil {
		return err
	}
	s.show(merged)
	return nil
}

func (s *Store) openMerged(path string) (*aggregate.Store, error) {
	return aggregate.Open(path, aggregate.Options{Logger: s.cfg.Log, Retention: s.cfg.Retention, Foreign: s.cfg.Foreign,
		InitialTotals: s.metrics.StoreTotals()})
}

// show has scrapes show the merged store beside the master's own metrics; nil: these alone.
func (s *Store) show(merged *aggregate.Store) {
	own := prometheus.NewRegistry()
	own.MustRegister(s.metrics)
	h := promhttp.HandlerFor(own, promhttp.HandlerOpts{Timeout: endpoint.ScrapeTime})
	if merged != nil {
		h = merged.Handler(aggregate.HandlerOptions{Timeout: endpoint.ScrapeTime, Additional: own})
	}
	s.scraped.Store(&scraped{merged, h})
}

// ServeHTTP answers a scrape.
func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.scraped.Load().handler.ServeHTTP(w, r)
}

// Totals returns what the merged store has counted; nil when there is none. It waits for a scrape that is under way.
func (s *Store) Totals() *aggregate.Totals {
	now := s.scraped.Load()
	if now.merged == nil {
		return nil
	}
	totals := now.merged.Totals()
	return &totals
}

// Folding reports whether the files of dead workers are being folded.
func (s *Store) Folding() bool { return s.folding != nil }

// StartFold folds the files of dead workers in the background until StopFold.
func (s *Store) StartFold() {
	if merged := s.scraped.Load().merged; merged != nil && s.folding == nil {
		s.folding = Fold(merged, s.cfg.Log)
	}
}

// StopFold ends the folding. The channel is closed when the last fold has ended.
func (s *Store) StopFold() (over <-chan struct{}) {
	if s.folding == nil {
		none := make(chan struct{})
		close(none)
		return none
	}
	over = s.folding()
	s.folding = nil
	return over
}

// Fold folds a store in the background until the function that it returns is called. That function does not wait: the channel
// that it returns is closed when the last fold has ended.
func Fold(store *aggregate.Store, log *slog.Logger) (stop func() (over <-chan struct{})) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := store.Run(ctx); err != nil && ctx.Err() == nil {
			log.Error("the files of dead workers are no longer folded", "err", err)
		}
	}()
	return func() <-chan struct{} {
		cancel()
		return ended
	}
}

// CloseMerged closes what scrapes show.
func (s *Store) CloseMerged() {
	if now := s.scraped.Load(); now != nil && now.merged != nil {
		now.merged.Close()
	}
}

// Close gives the store up; the lock comes last.
func (s *Store) Close() { s.opened.close() }
