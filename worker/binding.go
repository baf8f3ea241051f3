package worker

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"math"
	"sync/atomic"

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
	look    func() (dir string, slot int, err error) // nil when it was called already or must not be called
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
	r.binding.refused = nil
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
	r.binding.look, r.binding.refused = nil, nil
	if r.binding.writer == nil {
		return nil
	}
	r.endPublishers()
	// The file goes first: nobody reads the marks that moving leaves behind.
	err := r.binding.writer.Abandon()
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
	if r.binding.reader != nil {
		err = errors.Join(err, r.binding.reader.Close())
	}
	if r.binding.slot != nil {
		err = errors.Join(err, r.binding.slot.Close())
	}
	err = errors.Join(err, r.binding.dir.Close())
	r.binding = binding{ready: r.binding.ready, limit: r.binding.limit}
	return err
}

// bindOnce binds to the store that the environment names, when it was not looked for yet. The caller holds the lock.
func (r *registry) bindOnce() {
	if r.binding.look == nil {
		return
	}
	dir, slot, err := r.binding.look()
	r.binding.look = nil
	if dir == "" {
		return
	}
	if err == nil {
		err = r.bind(dir, slot)
	}
	if err != nil {
		r.binding.refused = err
		r.log.Error("the metrics of this process stay in its memory and no scrape of the store has them",
			"store", dir, "error", err)
	}
}

// bind creates this process's file in the store and moves the series there. The caller holds the lock.
func (r *registry) bind(path string, slot int) (err error) {
	if r.binding.writer != nil {
		if r.binding.dir.Path() != path {
			return fmt.Errorf("this process writes to %s already", r.binding.dir.Path())
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
	w, err := dir.Create(shmstore.WriterOptions{Slot: slot, Limit: r.binding.limit})
	if err != nil {
		return err
	}
	r.binding.dir, r.binding.slot, r.binding.writer, r.binding.overflow, r.binding.drained = dir, claimed, w, 0, false
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
	if r.binding.ready {
		w.SetReady()
	}
	r.startPublishers()
	return nil
}

// allot returns cells for a new series. That of a function stays in process memory until it has a value, see announce. The
// caller holds the lock.
func (r *registry) allot(s *series) []uint64 {
	if _, ok := s.metric.(valueFunction); r.binding.writer != nil && !ok {
		if cells := r.allotStored(s, nil); cells != nil {
			return cells
		}
	}
	return memoryCells(s.def.family.Words())
}

// announce makes the series of a function, which has a value, part of the file, unless it is or cannot be. No reader sees
// it without its value. The caller holds the lock.
func (r *registry) announce(s *series) {
	if r.binding.writer != nil && s.stored == nil && !s.overflow {
		r.allotStored(s, s.move)
	}
}

// allotStored returns cells in the file for a series, or counts it as one that got none and returns nil. begin, if it is
// not nil, writes to the cells before readers see the series.
func (r *registry) allotStored(s *series, begin func(cells []uint64)) []uint64 {
	d := s.def
	err := error(nil)
	if d.writer != r.binding.writer {
		if d.id, err = r.binding.writer.AddFamily(d.family); err == nil {
			d.writer = r.binding.writer
		}
	}
	if err == nil {
		s.stored, err = r.binding.writer.AddSeriesWith(d.id, s.labelValues(), s.created, begin)
	}
	if err != nil {
		s.stored, s.overflow = nil, true
		r.setOverflow(r.binding.overflow + 1)
		r.once("overflow", func() {
			r.log.Error("the store did not take a series: it stays in process memory, as others may; "+
				"onescrape_store_overflow_series counts them", "store", r.binding.dir.Path(), "metric", d.family.Name, "error", err)
		})
		return nil
	}
	return s.stored.Cells
}

// drop takes a series that was deleted out of the file. The caller holds the lock.
func (r *registry) drop(s *series) {
	switch {
	case s.stored != nil:
		r.binding.writer.Delete(s.stored)
	case s.overflow:
		r.setOverflow(r.binding.overflow - 1)
	}
}

func (r *registry) setOverflow(n int) {
	r.binding.overflow = n
	r.binding.writer.SetOverflow(n)
}

// storeReady says in the file that this process is ready, now or when it is bound later.
func storeReady() { process.storeReady() }

func (r *registry) storeReady() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.binding.ready = true
	if r.binding.writer != nil {
		r.binding.writer.SetReady()
	}
	r.wakePublishers()
}

// storeDrained says in the file that this process will add no more. Metrics work on.
func storeDrained() { process.storeDrained() }

func (r *registry) storeDrained() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.binding.writer == nil || r.binding.drained {
		return
	}
	r.binding.drained = true
	if err := r.binding.writer.Close(); err != nil {
		r.log.Warn("the store's file could not be marked as drained", "store", r.binding.dir.Path(), "error", err)
	}
}

// storeless returns why the store that the environment names is not used, and how many series are therefore in process
// memory; 0 and nil when it is used or none is named.
func storeless() (n int, reason error) { return process.storeless() }

func (r *registry) storeless() (n int, reason error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.binding.refused == nil {
		return 0, nil
	}
	for _, d := range r.all {
		for range d.table.Load().all() {
			n++
		}
	}
	return n, r.binding.refused
}

// A series moves when metrics that were constructed before Open go into the store, and when Detach takes them out of
// it. Writers take no lock, so one of them can hold the old address across the move and write to it afterwards. Nothing
// of that is lost: the words that are left behind bear a mark that no value is, every hot method sees from the result
// of its one atomic instruction that it hit a mark, and carries what it wrote over to the new place under the
// registry's lock. On the usual way this costs a comparison with a register.
const (
	// integerMark is what a word is set to that counted integers. Stragglers add to it and it stays recognizable: a
	// count is less than 1<<63.
	integerMark = 1 << 63
	// floatMark is what a word is set to that held the bits of a float64: a NaN with a payload of its own. Who observes
	// just that NaN is slow, and nothing worse.
	floatMark = 0x7ff8_6d6f_7665_6421
)

// gaugeMark is floatMark as a gauge's word stands for it.
var gaugeMark = shmstore.GaugeWord(math.Float64frombits(floatMark))

// move makes to the series' words, with the value that it has. to is all zero and known to nobody else. The caller
// holds the registry's lock.
func (s *series) move(to []uint64) {
	from := s.cells.Load()
	if g, ok := s.metric.(interface{ moveTimed(to []uint64) bool }); ok && g.moveTimed(to) {
		return
	}
	if h, ok := s.metric.(*Histogram); ok && h.def.family.Native != nil {
		table := h.moveNative(to)
		s.moveWords(from, to[:h.def.family.NativeCells()])
		s.cells.Store(&to[0])
		h.table.Store(table)
		return
	}
	s.moveWords(from, to)
	s.cells.Store(&to[0])
	s.placeWindow()
}

// placeWindow brings the window of a summary, if it has one, to where the series is. The caller holds the registry's lock.
func (s *series) placeWindow() {
	if m, ok := s.metric.(*Summary); ok && m.window != nil {
		m.window.place(s.def.registry.binding.writer, s.stored)
	}
}

// moveWords moves words whose kind says all about them.
func (s *series) moveWords(from *uint64, to []uint64) {
	for i := range to {
		switch s.def.kindOf(i) {
		case integerCell:
			atomic.StoreUint64(&to[i], atomic.SwapUint64(word(from, i), integerMark))
		case floatCell:
			atomic.StoreUint64(&to[i], atomic.SwapUint64(word(from, i), floatMark))
		case gaugeCell:
			atomic.StoreUint64(&to[i], atomic.SwapUint64(word(from, i), gaugeMark))
		}
	}
}

// cellKind is what one word of a series holds.
type cellKind uint8

const (
	integerCell cellKind = iota
	floatCell
	gaugeCell
)

// kindOf returns what the i-th word of the definition's series holds.
func (d *definition) kindOf(i int) cellKind {
	switch d.family.Type {
	case shmstore.CounterType:
		if i == shmstore.CounterFloat {
			return floatCell
		}
	case shmstore.HistogramType:
		if i == shmstore.HistogramSum {
			return floatCell
		}
	case shmstore.SummaryType:
		if i == shmstore.SummarySum {
			return floatCell
		}
	default:
		return gaugeCell
	}
	return integerCell
}

// observe adds 1 to the integer in the count-th of the words at p, and v to the float64 in the sum-th. The sum is read
// before the count is written, because no processor reads on while it does a locked instruction.
func (s *series) observe(p *uint64, count, sum int, v float64) {
	old := atomic.LoadUint64(word(p, sum))
	if atomic.AddUint64(word(p, count), 1) >= integerMark {
		s.addIntegerMarked(count, 1)
	}
	if old == floatMark ||
		!atomic.CompareAndSwapUint64(word(p, sum), old, math.Float64bits(math.Float64frombits(old)+v)) {
		s.addFloat(p, sum, v)
	}
}

// addIntegerMarked is for a writer that just added n to a word with a mark: it carries n over to where the series
// moved. When the word was no marked one but is full, n is taken out again and false returned.
func (s *series) addIntegerMarked(i int, n uint64) bool {
	s.def.registry.mu.Lock()
	defer s.def.registry.mu.Unlock()
	w := word(s.cells.Load(), i)
	if atomic.LoadUint64(w) >= integerMark {
		atomic.AddUint64(w, -n)
		return false
	}
	atomic.AddUint64(w, n)
	return true
}

// addFloat adds v to the float64 in the i-th of the words at p.
func (s *series) addFloat(p *uint64, i int, v float64) {
	w := word(p, i)
	for {
		old := atomic.LoadUint64(w)
		if old == floatMark {
			s.addFloatMarked(i, v)
			return
		}
		if atomic.CompareAndSwapUint64(w, old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

// addFloatMarked adds v to the i-th word, which bore a mark a moment ago, where it is now.
func (s *series) addFloatMarked(i int, v float64) {
	s.def.registry.mu.Lock()
	defer s.def.registry.mu.Unlock()
	w := word(s.cells.Load(), i)
	for {
		old := atomic.LoadUint64(w)
		if atomic.CompareAndSwapUint64(w, old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}
