package aggregate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/foreign"
)

// Options are the options of Open. The zero value suits most programs.
type Options struct {
	// Logger gets one line for each problem with the store's files; nil: slog.Default().
	Logger *slog.Logger
	// ReadOnly makes a Store that never folds or removes anything, and needs only the permission to read.
	ReadOnly bool
	// Retention is how long a series of dead processes counts after a living process last touched it. 0: 24 h; negative:
	// for ever.
	Retention time.Duration
	// Label is the label of all and liveall gauges that holds the slot; "": "worker".
	Label string
	// InitialTotals are the totals of the Store before this one. Counting goes on from them.
	InitialTotals Totals
	// Foreign are directories of other client libraries' files, see package foreign, that are merged too.
	Foreign []*foreign.Dir
}

const defaultRetention = 24 * time.Hour

// Store merges the files of a store's directory, and of foreign directories if there are any. It is a prometheus.Gatherer
// and safe for concurrent use.
type Store struct {
	dir     *shmstore.Dir // nil: there are foreign directories only
	options Options
	log     *slog.Logger

	now func() uint64 // shmstore.Monotonic, but in tests

	begun   atomic.Uint64           // passes that were begun
	clashes atomic.Pointer[clashes] // of the last scrape in OpenMetrics

	folding  chan struct{}   // has room for one: who folds
	closing  context.Context // ends with Close, and any wait of a fold with it
	close    context.CancelFunc
	waiting  atomic.Uint64  // since when a fold has been waiting for its lock, on Monotonic's clock; 0: none is
	foldView *shmstore.View // of folds, so that they keep no scrape waiting; nil without a dir
	foldStep func(string)   // told of each step of a fold; of tests
	foldLook func(string)   // told of each file that a fold is about to look at; of tests
	settle   time.Duration  // of foreign directories, 0: as foreign.CompactOptions say; of tests

	mu     sync.RWMutex // held to write by a pass, to read by who makes an answer of it
	closed bool
	plan
}

// plan is what a Store keeps between passes.
type plan struct {
	sources     []*source
	files       map[string]*file   // by name
	families    map[string]*family // by name
	exposed     []*family          // that have something to show, sorted by name
	selfMetrics selfMetrics
	reports     reports // of the pass
	cells       cells   // of the file that is being read
	keeps       bool    // what is found deleted or dead counts as shown or alive
}

var _ prometheus.Gatherer = (*Store)(nil)

// Open opens the store in dir, which must exist and be safe; it returns the errors of shmstore.OpenDir. With "" only the
// foreign directories are read. Any number of processes may have the same store open.
func Open(dir string, o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Label == "" {
		o.Label = "worker"
	}
	if !utf8.ValidString(o.Label) || strings.HasPrefix(o.Label, "__") {
		return nil, fmt.Errorf("aggregate: open %s: %q is no label for the slot", dir, o.Label)
	}
	if o.Retention == 0 {
		o.Retention = defaultRetention
	}
	s := &Store{options: o, log: o.Logger, now: shmstore.Monotonic, folding: make(chan struct{}, 1)}
	s.closing, s.close = context.WithCancel(context.Background())
	if dir != "" || len(o.Foreign) == 0 {
		d, err := shmstore.OpenDir(dir, shmstore.DirOptions{})
		if err != nil {
			return nil, fmt.Errorf("aggregate: %w", err)
		}
		s.dir, s.foldView, s.log = d, d.View(), s.log.With("store", d.Path())
	}
	s.plan = plan{
		files:       map[string]*file{},
		families:    map[string]*family{},
		selfMetrics: newSelfMetrics(o.InitialTotals),
		reports:     reports{},
	}
	if err := s.openSources(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Dir returns the absolute path of the store's directory, "" when only foreign ones are read.
func (s *Store) Dir() string {
	if s.dir == nil {
		return ""
	}
	return s.dir.Path()
}

// errClosed is what every method of a closed Store returns.
var errClosed = errors.New("aggregate: the store is closed")

// Close closes the store's files. Later calls return an error. A second Close does nothing.
func (s *Store) Close() error {
	s.close()
	s.folding <- struct{}{}
	defer func() { <-s.folding }()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for _, src := range s.sources {
		errs = append(errs, src.Close())
	}
	if s.dir != nil {
		errs = append(errs, s.foldView.Close(), s.dir.Close())
	}
	s.plan = plan{}
	return errors.Join(errs...)
}

// Gather returns the merged families, sorted as client_golang's registry sorts them, with the store's own. The error is
// nil unless the Store was closed: what cannot be read is left out and counted. The caller may change the families and
// their metrics, but neither labels nor buckets' bounds in place, which other results share.
func (s *Store) Gather() ([]*dto.MetricFamily, error) {
	return s.gather(nil)
}

// WriteText writes the families with these names, or all families, in Prometheus's text format 0.0.4. Unknown names are
// ignored. It returns the error of w, or an error when the Store is closed.
func (s *Store) WriteText(w io.Writer, names ...string) error {
	b := buffers.take()
	defer buffers.give(b)
	var err error
	if b.bytes, err = s.appendText(b.bytes, exposition{}, names, nil); err != nil {
		return err
	}
	if _, err := w.Write(b.bytes); err != nil {
		return fmt.Errorf("aggregate: write text: %w", err)
	}
	return nil
}

// gather returns the families of these names, or all.
func (s *Store) gather(names []string) ([]*dto.MetricFamily, error) {
	if err := s.fresh(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, errClosed
	}
	return s.collect(namesAmong(names)), nil
}

// fresh makes sure that a pass has run which began after the call. Calls that wait for one that is running share the
// next.
func (s *Store) fresh() error {
	want := s.begun.Load() + 1
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if s.begun.Load() < want {
		s.begun.Add(1)
		s.pass()
	}
	return nil
}
