package worker

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore"
)

// binding is the connection of a registry with a store, if it has one. The registry's lock protects it.
//
//	undecided --first metric--> bound     (the environment names a store)
//	                            refused   (it does, but the store cannot be used: storeless says so)
//	                            unbound   (it names none)
//	any       --Open----------> bound
//	any       --Detach--------> unbound
type binding struct {
	look    func() (dir string, slot int, err error) // nil when it was called or is not to be
	refused error                                    // why the store that the environment names is not used
	limit   int64                                    // bytes of a file; 0: shmstore's default

	dir      *shmstore.Dir
	slot     *shmstore.Lock   // of a slot that was claimed, nil when it was given
	writer   *shmstore.Writer // nil: values are in process memory
	overflow int              // series that are in process memory although there is a writer
	ready    bool             // storeReady was called
	drained  bool             // storeDrained was called

	reader *aggregate.Store // what Gatherer and Handler read by, opened when first needed
}

// noSlot asks for the lowest number that no other process has.
const noSlot = -1

// fromEnvironment returns the store that the environment names, "" when it names none.
func fromEnvironment() (dir string, slot int, err error) {
	if os.Getenv("ONESCRAPE_EXEC") != "" {
		return "", noSlot, nil // about to become another program, which is the writer
	}
	dir = os.Getenv("ONESCRAPE_DIR")
	s, ok := os.LookupEnv("ONESCRAPE_SLOT")
	if dir == "" || !ok {
		return dir, noSlot, nil
	}
	if slot, err = strconv.Atoi(s); err != nil || slot < 0 {
		return dir, noSlot, fmt.Errorf("ONESCRAPE_SLOT=%q is not the number of a slot", s)
	}
	return dir, slot, nil
}

// Open binds this process to the store in dir, which is made when it is missing, for programs whose environment names
// none. ONESCRAPE_SLOT is this process's slot; without it the lowest free number is claimed. Metrics that were
// constructed before move over with their values. It returns nil when the process writes to that store already, and an
// error when it writes to another, or when the store cannot be used; the metrics then stay where they are. It is safe
// for concurrent use, also with the use of metrics.
func Open(dir string) error {
	slot := noSlot
	if n, err := strconv.Atoi(os.Getenv("ONESCRAPE_SLOT")); err == nil && n >= 0 {
		slot = n
	}
	return process.open(dir, slot)
}

func (r *registry) open(dir string, slot int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bindOnce()
	if err := r.bind(dir, slot); err != nil {
		return fmt.Errorf("worker: open %s: %w", dir, err)
	}
	r.refused = nil
	return nil
}

// Detach moves this process's metrics with their values from the store into process memory, and removes the process's file.
// It is for a process that turns out to be a master and no worker. The error says why the file could not be removed; the
// metrics have moved in any case. Without a store Detach does nothing. It is safe for concurrent use, also while metrics
// are used. Open may follow.
func Detach() error { return process.detach() }

func (r *registry) detach() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look, r.refused = nil, nil
	if r.writer == nil {
		return nil
	}
	r.endPublishers()
	// The file goes first: nobody reads the marks that moving leaves behind.
	err := r.writer.Abandon()
	for _, d := range r.all {
		for s := range d.table.Load().all() {
			if s.stored != nil {
				s.stored = nil
				s.move(memoryCells(d.family.Words()))
			}
			s.overflow = false
			s.moveExemplars()
		}
	}
	if r.reader != nil {
		err = errors.Join(err, r.reader.Close())
	}
	if r.slot != nil {
		err = errors.Join(err, r.slot.Close())
	}
	err = errors.Join(err, r.dir.Close())
	r.binding = binding{ready: r.ready, limit: r.limit}
	return err
}

// bindOnce binds to the store that the environment names, when it was not looked for yet. The caller holds the lock.
func (r *registry) bindOnce() {
	if r.look == nil {
		return
	}
	dir, slot, err := r.look()
	r.look = nil
	if dir == "" {
		return
	}
	if err == nil {
		err = r.bind(dir, slot)
	}
	if err != nil {
		r.refused = err
		r.log.Error("the metrics of this process stay in its memory and no scrape of the store has them",
			"store", dir, "error", err)
	}
}

// bind creates this process's file in the store and moves the series there. The caller holds the lock.
func (r *registry) bind(path string, slot int) (err error) {
	if r.writer != nil {
		if r.dir.Path() != path {
			return fmt.Errorf("this process writes to %s already", r.dir.Path())
		}
		return nil
	}
	dir, err := shmstore.OpenDir(path, shmstore.DirOptions{Create: true})
	if err != nil {
		return err
	}
	var claimed *shmstore.Lock
	defer func() {
		if err != nil {
			if claimed != nil {
				_ = claimed.Close()
			}
			_ = dir.Close()
		}
	}()
	if slot == noSlot {
		if slot, claimed, err = dir.ClaimSlot(); err != nil {
			return err
		}
	}
	w, err := dir.Create(shmstore.WriterOptions{Slot: slot, Limit: r.limit})
	if err != nil {
		return err
	}
	r.dir, r.slot, r.writer, r.overflow, r.drained = dir, claimed, w, 0, false
	for _, d := range r.all {
		for s := range d.table.Load().all() {
			if f, ok := s.metric.(valueFunction); ok {
				if f.hasValue() {
					r.announce(s)
				}
			} else if cells := r.allotStored(s, nil); cells != nil {
				s.move(cells)
				s.moveExemplars()
			}
		}
	}
	if r.ready {
		w.SetReady()
	}
	r.startPublishers()
	return nil
}

// allot returns cells for a new series. That of a function stays in process memory until it has a value, see announce. The
// caller holds the lock.
func (r *registry) allot(s *series) []uint64 {
	if _, ok := s.metric.(valueFunction); r.writer != nil && !ok {
		if cells := r.allotStored(s, nil); cells != nil {
			return cells
		}
	}
	return memoryCells(s.def.family.Words())
}

// announce makes the series of a function, which has a value, part of the file, unless it is or cannot be. No reader sees
// it without its value. The caller holds the lock.
func (r *registry) announce(s *series) {
	if r.writer != nil && s.stored == nil && !s.overflow {
		r.allotStored(s, s.move)
	}
}

// allotStored returns cells in the file for a series, or counts it as one that got none and returns nil. begin, if it is
// not nil, writes to the cells before readers see the series.
func (r *registry) allotStored(s *series, begin func(cells []uint64)) []uint64 {
	d := s.def
	err := error(nil)
	if d.writer != r.writer {
		if d.id, err = r.writer.AddFamily(d.family); err == nil {
			d.writer = r.writer
		}
	}
	if err == nil {
		s.stored, err = r.writer.AddSeriesWith(d.id, s.labelValues(), s.created, begin)
	}
	if err != nil {
		s.stored, s.overflow = nil, true
		r.setOverflow(r.overflow + 1)
		r.once("overflow", func() {
			r.log.Error("the store did not take a series: it stays in process memory, as others may; "+
				"onescrape_store_overflow_series counts them", "store", r.dir.Path(), "metric", d.family.Name, "error", err)
		})
		return nil
	}
	return s.stored.Cells
}

// drop takes a series that was deleted out of the file. The caller holds the lock.
func (r *registry) drop(s *series) {
	switch {
	case s.stored != nil:
		r.writer.Delete(s.stored)
	case s.overflow:
		r.setOverflow(r.overflow - 1)
	}
}

func (r *registry) setOverflow(n int) {
	r.overflow = n
	r.writer.SetOverflow(n)
}

// storeReady says in the file that this process is ready, now or when it is bound later.
func storeReady() { process.storeReady() }

func (r *registry) storeReady() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready = true
	if r.writer != nil {
		r.writer.SetReady()
	}
	r.wakePublishers()
}

// storeDrained says in the file that this process will add no more. Metrics work on.
func storeDrained() { process.storeDrained() }

func (r *registry) storeDrained() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.writer == nil || r.drained {
		return
	}
	r.drained = true
	if err := r.writer.Close(); err != nil {
		r.log.Warn("the store's file could not be marked as drained", "store", r.dir.Path(), "error", err)
	}
}

// storeless returns why the store that the environment names is not used, and how many series are therefore in process
// memory; 0 and nil when it is used or none is named.
func storeless() (n int, reason error) { return process.storeless() }

func (r *registry) storeless() (n int, reason error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.refused == nil {
		return 0, nil
	}
	for _, d := range r.all {
		for range d.table.Load().all() {
			n++
		}
	}
	return n, r.refused
}
