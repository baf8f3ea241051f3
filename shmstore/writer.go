package shmstore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
	"github.com/onescrape/onescrape/shmstore/internal/mapped"
	"github.com/onescrape/onescrape/shmstore/internal/osfile"
)

// Writer is the file of this process, or one of them. Its methods are safe for concurrent use; the cells of its series
// need no method at all. Neither descriptor nor mapping ever goes before the process does, whatever becomes of the
// Writer, because both hold the lock that tells others that the process lives.
type Writer struct {
	dir   *Dir
	name  string
	nonce uint64

	mu       sync.Mutex
	memory   mapped.Memory
	space    space
	segment  run
	families map[string]uint32
	kinds    []familyKind // by number
	releases uint64
	pending  []*Series // released, waiting for an archive to take them; in the order of their numbers
	archived archivedCache
	resting  []*Series     // gauges that were released, waiting for gaugeRest to pass; in the order of their release
	rest     time.Duration // how long: gaugeRest
	weight   int64         // of all series, see Budget
}

// familyKind is what the writer remembers of a family.
type familyKind struct {
	words, labels  int
	text           textWeight
	gauge          bool
	exemplars      int
	window, octave int // words of their blocks; 0: it has no window
}

// WriterOptions say how Create makes a file.
type WriterOptions struct {
	Slot  int   // the number that all and liveall gauges show; -1: none
	Limit int64 // bytes that the file may have at most; 0: 1 GiB
}

const (
	defaultLimit = 1 << 30
	maxLimit     = 16 << 30 // so that the number of any word of a file is an int32
)

// firstSegment is how many bytes the records of a new file have; later segments are larger.
const (
	firstSegment = 8 << 10
	maxSegment   = 64 << 10
)

// Series is one series in the file of this process.
type Series struct {
	// Cells are the series' own, as long as Family.Words says, outside Go's heap. They are valid until the process ends,
	// and the series' own until Released.
	Cells []uint64
	// Window is the block of the series' window, as long as Window.Words says; nil without one. What is said of Cells is
	// true of it and of what AddOctave returns.
	Window []uint64
	// Created is when its value began.
	Created time.Time

	offset int64 // of its record
	cells  int64
	gauge  bool
	state  uint64 // seriesShown, seriesHidden, seriesReleased or seriesFree
	number uint64 // of its release
	weight int64  // see Budget

	deleted uint64 // when, on Monotonic's clock
	resting bool   // it waits for gaugeRest to pass

	exemplars int    // that it may have
	key       uint64 // of its exemplars
	aux       aux

	window      int64 // 0: none
	octaveWords int
}

// Create makes the file of this process. Other processes see it complete and locked, or not at all. It returns ErrFull when
// there is no space.
func (d *Dir) Create(o WriterOptions) (*Writer, error) {
	w, err := d.create(o, d.unnamed)
	if err != nil {
		return nil, fmt.Errorf("shmstore: make a file in %s: %w", d.path, err)
	}
	return w, nil
}

func (d *Dir) create(o WriterOptions, newFile func(mode uint32) (*newFile, error)) (*Writer, error) {
	limit := min(o.Limit, maxLimit)
	if limit <= 0 {
		limit = defaultLimit
	}
	limit = encoding.Align(max(limit, headerSize+firstSegment), grain)
	if o.Slot < -1 {
		return nil, fmt.Errorf("%d is no slot", o.Slot)
	}
	header, nonce, err := d.newHeader(o.Slot)
	if err != nil {
		return nil, err
	}
	memory, err := mapped.Reserve(limit)
	if err != nil {
		return nil, err
	}
	file, err := newFile(0o400)
	if err != nil {
		memory.Unmap()
		return nil, err
	}
	w := &Writer{dir: d, name: fileName(os.Getpid(), nonce), nonce: nonce, memory: memory, families: map[string]uint32{},
		rest: gaugeRest}
	w.space = space{fd: file.fd, memory: &w.memory, limit: limit, next: headerSize, free: map[int][]int64{}, records: map[int64][]int64{}}
	if err = w.begin(file.fd, header); err == nil {
		err = file.publish(w.name)
	}
	if err != nil {
		w.memory.Unmap()
		file.discard()
		return nil, err
	}
	return w, nil
}

// newHeader returns the part of the header that never changes.
func (d *Dir) newHeader(slot int) (b []byte, nonce uint64, err error) {
	boot, err := osfile.BootID()
	if err != nil {
		return nil, 0, err
	}
	var random [8]byte
	rand.Read(random[:])
	nonce = encoding.Native.Uint64(random[:])
	b = append(b, magic...)
	b = encoding.AppendUint32(b, version)
	b = encoding.AppendUint32(b, orderMark)
	b = append(b, d.id[:]...)
	b = append(b, boot[:]...)
	b = encoding.AppendUint64(b, nonce)
	b = encoding.AppendUint32(b, uint32(os.Getpid()))
	b = encoding.AppendUint32(b, uint32(int32(slot)))
	b = encoding.AppendUint64(b, uint64(time.Now().UnixNano()))
	b = encoding.AppendUint64(b, osfile.Monotonic())
	b = encoding.AppendUint32(b, 0)
	return encoding.AppendUint32(b, encoding.Checksum(b)), nonce, nil
}

// begin locks the file that has no name yet and writes what a reader needs.
func (w *Writer) begin(fd int, header []byte) error {
	if err := lockWhole(fd, 0); err != nil {
		return err
	}
	reserved := encoding.Align(headerSize+firstSegment, grain)
	if err := osfile.Allocate(fd, 0, reserved); err != nil {
		return errFull(err)
	}
	if err := w.memory.Fill(fd, 0, reserved); err != nil {
		return err
	}
	w.space.reserved, w.space.next = reserved, headerSize+firstSegment
	w.segment = run{headerSize, headerSize + firstSegment}
	copy(w.memory.Bytes, header)
	w.memory.Store(hdrReserved, uint64(reserved))
	w.memory.Store(hdrUsed, headerSize)
	return nil
}

// Name returns the file's name in the directory.
func (w *Writer) Name() string { return w.name }

// AddFamily announces a family and returns its number. A second one with the same Key, and native buckets that are alike,
// is the first. ErrFull when there
// is no space for it.
func (w *Writer) AddFamily(f Family) (uint32, error) {
	if err := f.Check(); err != nil {
		return 0, fmt.Errorf("shmstore: add family %q: %w", f.Name, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	key := f.Key()
	if f.Native != nil {
		key += string(appendNative(nil, f.Native)) // of which the number of cells depends
	}
	if id, ok := w.families[key]; ok {
		return id, nil
	}
	body := appendFamily(make([]byte, 0, 256), &f)
	offset, err := w.append(encoding.Align(int64(familyBody+len(body)), wordSize))
	if err != nil {
		return 0, fmt.Errorf("shmstore: add family %q: %w", f.Name, err)
	}
	r := w.memory.Bytes[offset:]
	encoding.Native.PutUint16(r[recKind:], kindFamily)
	copy(r[familyBody:], body)
	encoding.Native.PutUint32(r[recChecksum:], familyChecksum(w.memory.Bytes[offset:w.segment.next]))
	w.publish()
	id := uint32(len(w.kinds))
	w.families[key] = id
	kind := familyKind{words: f.Words(), labels: len(f.Labels), text: f.textWeight(), gauge: f.Mode != 0, exemplars: f.ExemplarSlots()}
	if f.Window != nil {
		kind.window, kind.octave = f.Window.Words(), f.Window.OctaveWords()
	}
	w.kinds = append(w.kinds, kind)
	return id, nil
}

// AddSeries announces a series of a family, with the values of its labels in the order of Family.Labels, and returns it
// with cells that are zero. It does not look for one that is there already: a caller makes each label set once, and once
// more after Delete. ErrFull when there is no space for it.
func (w *Writer) AddSeries(family uint32, values []string) (*Series, error) {
	return w.AddSeriesSince(family, values, time.Now())
}

// AddSeriesSince is AddSeries for a series whose value began at another time than now, because it was kept elsewhere.
func (w *Writer) AddSeriesSince(family uint32, values []string, created time.Time) (*Series, error) {
	return w.AddSeriesWith(family, values, created, nil)
}

// AddSeriesWith is AddSeriesSince for a series that must not be seen without its value: before any reader sees the series,
// begin writes the first value to its cells. begin must not call methods of w; nil leaves the cells zero.
func (w *Writer) AddSeriesWith(
	family uint32, values []string, created time.Time, begin func(cells []uint64),
) (*Series, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if int(family) >= len(w.kinds) {
		return nil, fmt.Errorf("shmstore: add a series: there is no family %d", family)
	}
	kind := w.kinds[family]
	if len(values) != kind.labels {
		return nil, fmt.Errorf("shmstore: add a series: %d label values for %d labels", len(values), kind.labels)
	}
	body, length := make([]byte, 0, 128), 0
	for _, v := range values {
		length += len(v)
		if !fits(v) {
			return nil, fmt.Errorf("shmstore: add a series: a label value of %d bytes is too long or not UTF-8", len(v))
		}
		body = encoding.AppendString(body, v)
	}
	w.reuseArchived()
	w.reuseRested(maxResting)
	weight := kind.text.of(length)
	if w.weight+weight > Budget(w.space.reserved) {
		return nil, fmt.Errorf("shmstore: add a series: %w", errBudget)
	}
	s, err := w.place(family, body, created, begin)
	if errors.Is(err, ErrFull) && len(w.resting) > 0 {
		w.reuseRested(0)
		s, err = w.place(family, body, created, begin)
	}
	if err != nil {
		return nil, fmt.Errorf("shmstore: add a series: %w", err)
	}
	s.weight = weight
	w.weight += weight
	return s, nil
}

// place finds a place for a series with these label values and announces it.
func (w *Writer) place(
	family uint32, body []byte, created time.Time, begin func(cells []uint64),
) (*Series, error) {
	kind := w.kinds[family]
	cells, err := w.space.cells(kind.words)
	if err != nil {
		return nil, err
	}
	length := recordSize(int64(seriesValues + len(body)))
	s := &Series{
		Cells:     w.memory.Words[cells/wordSize:][:kind.words:kind.words],
		Created:   created,
		cells:     cells,
		gauge:     kind.gauge,
		state:     seriesShown,
		exemplars: kind.exemplars,
	}
	reused := false
	if err = w.addWindow(s, &kind); err == nil {
		s.offset = w.space.record(length)
		if reused = s.offset != 0; !reused {
			s.offset, err = w.append(length)
		}
	}
	if err != nil {
		w.giveWindow(s)
		w.space.giveCells(cells, kind.words)
		return nil, err
	}
	w.describe(s, family, body, begin)
	if reused {
		w.memory.Add(hdrLayout, 1)
	} else {
		w.publish()
	}
	return s, nil
}

// describe writes the record of a series, which no reader looks at yet: it is not published, or free.
func (w *Writer) describe(s *Series, family uint32, body []byte, begin func(cells []uint64)) {
	for i := range s.Cells {
		w.memory.Store(s.cells+int64(i)*wordSize, 0)
	}
	if begin != nil {
		begin(s.Cells)
	}
	r := w.memory.Bytes[s.offset:]
	encoding.Native.PutUint16(r[recKind:], kindSeries)
	encoding.Native.PutUint32(r[recFamily:], family)
	encoding.Native.PutUint64(r[seriesCells:], uint64(s.cells))
	encoding.Native.PutUint32(r[seriesWords:], uint32(len(s.Cells)))
	encoding.Native.PutUint32(r[seriesBody:], uint32(len(body)))
	encoding.Native.PutUint64(r[seriesCreated:], uint64(s.Created.UnixNano()))
	born := osfile.Monotonic()
	s.key = exemplarKey(s.offset, born)
	encoding.Native.PutUint64(r[seriesBorn:], born)
	encoding.Native.PutUint64(r[seriesAux:], uint64(s.window))
	copy(r[seriesValues:], body)
	encoding.Native.PutUint32(r[recChecksum:], seriesChecksum(r[:seriesValues+len(body)]))
	w.memory.Store(s.offset+seriesNumber, 0)
	w.memory.Store(s.offset+seriesDeletedAt, 0)
	w.memory.Store(s.offset+seriesState, nextState(w.memory.Load(s.offset+seriesState), seriesShown))
}

// append hands out length bytes for a record behind the last one, with the length in it. Nothing is visible before
// publish.
func (w *Writer) append(length int64) (int64, error) {
	if length > maxRecord {
		return 0, fmt.Errorf("a record of %d bytes is too long", length)
	}
	if w.segment.next+length+jumpSize > w.segment.end {
		size := min(encoding.Align(w.space.reserved/8, pageSize), maxSegment)
		size = max(size, firstSegment, length+jumpSize)
		offset, err := w.space.take(size)
		if errors.Is(err, ErrFull) {
			// What is left may still do for this one.
			size = length + jumpSize
			offset, err = w.space.take(size)
		}
		if err != nil {
			return 0, err
		}
		jump := w.memory.Bytes[w.segment.next:]
		encoding.Native.PutUint32(jump[recLength:], jumpSize)
		encoding.Native.PutUint16(jump[recKind:], kindJump)
		encoding.Native.PutUint64(jump[jumpTarget:], uint64(offset))
		encoding.Native.PutUint32(jump[recChecksum:], familyChecksum(jump[:jumpSize]))
		w.segment = run{offset, offset + encoding.Align(size, pageSize)}
	}
	offset := w.segment.next
	encoding.Native.PutUint32(w.memory.Bytes[offset+recLength:], uint32(length))
	w.segment.next += length
	return offset, nil
}

// publish makes all records that were appended visible.
func (w *Writer) publish() { w.memory.Store(hdrUsed, uint64(w.segment.next)) }

// familyChecksum covers a record in which nothing changes.
func familyChecksum(r []byte) uint32 { return encoding.Checksum(r[:recChecksum], r[recFamily:]) }

// seriesChecksum covers what does not change in a series' record, up to the end of its label values. The aux offset,
// which does, counts as zero.
func seriesChecksum(r []byte) uint32 { return copiedChecksum(slices.Clone(r)) }

// copiedChecksum is seriesChecksum for a copy, which it moves together, because one long checksum takes a fraction of the
// time of several short ones. What is behind seriesAux stays, and so do the cells.
func copiedChecksum(b []byte) uint32 {
	clear(b[seriesAux:seriesValues])
	const head = recChecksum + (seriesState - recFamily)
	summed := b[seriesCells-head:]
	copy(summed, b[:recChecksum])
	copy(summed[recChecksum:], b[recFamily:seriesState])
	return crc32.Update(0, encoding.Castagnoli, summed)
}

// Delete hides a series. Its cells stay and may still be written to. A second Delete does nothing.
func (w *Writer) Delete(s *Series) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.state != seriesShown {
		return
	}
	s.deleted = osfile.Monotonic()
	w.memory.Store(s.offset+seriesDeletedAt, s.deleted)
	w.setState(s, seriesHidden)
}

// A gauge stays in its record for gaugeRest after its deletion. So a reader that finds it deleted too late to leave it out
// can still read its value. No more than maxResting gauges wait, so that a process which deletes very many stays small.
const (
	gaugeRest  = time.Second
	maxResting = 1024
)

// Released says that nobody can write to the cells of a deleted series any more. A gauge is then reused for other series,
// but not before gaugeRest has passed since its deletion. What a counter, a histogram or a summary has counted still belongs
// to the sum, so it is reused after an archive has taken it. Released does nothing for a series that is not deleted.
func (w *Writer) Released(s *Series) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.state != seriesHidden || s.resting {
		return
	}
	if s.gauge {
		s.resting = true
		w.resting = append(w.resting, s)
		w.reuseRested(maxResting)
		return
	}
	w.releases++
	s.number = w.releases
	w.memory.Store(s.offset+seriesNumber, s.number)
	w.setState(s, seriesReleased)
	w.memory.Store(hdrReleases, w.releases)
	w.pending = append(w.pending, s)
}

// reuseArchived frees the cells of released series that the archive has. It looks only when something waits, and seldom.
func (w *Writer) reuseArchived() {
	if len(w.pending) == 0 {
		return
	}
	through := w.archived.get(w.dir, w.nonce)
	n := 0
	for n < len(w.pending) && w.pending[n].number <= through {
		w.reuse(w.pending[n])
		n++
	}
	w.pending = slices.Delete(w.pending, 0, n)
}

// reuseRested makes room of the gauges that have waited long enough, and of the oldest of more than most.
func (w *Writer) reuseRested(most int) {
	if len(w.resting) == 0 {
		return
	}
	now := osfile.Monotonic()
	for len(w.resting) > 0 {
		s := w.resting[0]
		if len(w.resting) <= most && now-s.deleted < uint64(w.rest) {
			return
		}
		w.reuse(s)
		w.resting[0], w.resting = nil, w.resting[1:]
	}
}

// reuse puts the cells and the record of a series that is over back into the free space.
func (w *Writer) reuse(s *Series) {
	w.setState(s, seriesFree)
	w.weight -= s.weight
	w.giveAux(s)
	w.space.giveCells(s.cells, len(s.Cells))
	w.giveWindow(s)
	w.space.giveRecord(s.offset, int64(encoding.Native.Uint32(w.memory.Bytes[s.offset+recLength:])))
}

// setState moves a series that readers may have parsed to another state, and tells them.
func (w *Writer) setState(s *Series, state uint64) {
	s.state = state
	w.memory.Store(s.offset+seriesState, nextState(w.memory.Load(s.offset+seriesState), state))
	w.memory.Add(hdrLayout, 1)
}

// SetReady says that the process serves. Of several definitions of one family the one of the process that said so last
// wins.
func (w *Writer) SetReady() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if state := w.memory.Load(hdrState); state&stateReady == 0 {
		w.memory.Store(hdrReadyAt, osfile.Monotonic())
		w.memory.Store(hdrState, state|stateReady)
	}
}

// SetOverflow says how many series found no space and live in process memory.
func (w *Writer) SetOverflow(n int) { w.memory.Store(hdrOverflow, uint64(max(n, 0))) }

// Close says that the process has written all that it will. It neither unlocks nor unmaps: the lock ends with the
// process, and metrics may be written to until then.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.memory.Store(hdrState, w.memory.Load(hdrState)|stateDrained)
	return nil
}

// Abandon removes the file from the directory, as if it had never been.
func (w *Writer) Abandon() error {
	if err := unix.Unlinkat(w.dir.fd(), w.name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("shmstore: remove %s: %w", w.name, err)
	}
	return w.Close()
}
