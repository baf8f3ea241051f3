package shmstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
	"github.com/onescrape/onescrape/shmstore/internal/fault"
	"github.com/onescrape/onescrape/shmstore/internal/mapped"
	"github.com/onescrape/onescrape/shmstore/internal/osfile"
	"golang.org/x/sys/unix"
)

// Reader follows the file of one process, living or dead. Only one goroutine at a time may use it. It trusts nothing in the
// file: what does not fit is an error, and so is a file that shrinks while it is read.
type Reader struct {
	info   Info
	dir    *Dir
	file   *os.File // nil: closed, see closeFile
	inode  uint64
	memory mapped.Memory

	seen     seen
	families []Family
	series   []SeriesInfo
	records  []record // of series
	weight   int64    // of series, see weigh
	cells    []uint64 // of which words are a series', a bit each
	deleted  deleted
	broken   error // what is corrupt stays so
	reuse    reuse

	// What the last Refresh that went well had.
	announced int // families
	checked   int // series
}

// seen is how far a Reader has followed its file.
type seen struct {
	used     int64  // records before it are parsed
	next     int64  // where the next record is, when no jump leads away
	size     int64  // of the file, the last time that we asked
	layout   uint64 // the writer's layout epoch when series was checked last
	releases uint64 // how many the writer had made when series began to be checked last
	aux      uint64 // hdrAux when the extra blocks of the series were last looked for
	changes  uint64
	unknown  bool
}

// deleted is what a Reader knows of deletions.
type deleted struct {
	count  uint64 // that Refresh has found
	keeps  bool   // those that Refresh finds are late
	marked []int  // series that are Late or Fresh, or were
	lost   bool   // a series that was shown since KeepDeleted(true) cannot be read any more
}

// reuse is memory that a Reader takes from others or keeps for later.
type reuse struct {
	values  *sharedValues // nil once it was refreshed, or when it is in no View
	from    *Reader       // in the first Refresh
	arena   arena         // of what the series have that are being added
	pool    *pool         // for the first series; nil: none
	scratch []byte
	labels  []byte // of an exemplar
}

// record is where a series is described, what state it had then, and when it was added to the file.
type record struct {
	word, length uint32 // of the file, and in bytes
	state        uint64
	born         uint64
}

func (r *record) offset() int64 { return int64(r.word) * wordSize }

// Info is what never changes about a file.
type Info struct {
	Name        string // in the directory
	PID         int    // a label, no evidence that this process lives
	Slot        int    // -1: none
	Nonce       uint64 // tells the file from all others there ever were
	Version     int
	ThisBoot    bool      // written since the kernel started, so times of Monotonic compare
	Started     time.Time // of the process
	StartedMono uint64    // the same on Monotonic's clock
}

// State is what the process says of itself now.
type State struct {
	Ready    bool   // it serves, or did
	ReadyAt  uint64 // since when, on Monotonic's clock
	Drained  bool   // it has written all that it will
	Overflow int    // series that found no space and die with the process
	Used     int64  // bytes of the file that hold something
	Reserved int64  // bytes of the file
}

// SeriesInfo is one series of a file. Its cells are words[Cell:Cell+Words] in Read.
type SeriesInfo struct {
	Family uint32 // index into Families
	Hidden bool   // deleted by the process; a handle may still write to the cells, unless Release is set
	Free   bool   // nothing at the moment: the record waits for another series, and Hidden, Values, Cell mean nothing
	// Exemplars says that it may have some; Refresh changes that without another Layout.
	Exemplars bool
	// Late says that the series was deleted after View.KeepDeleted(true): Hidden is set, but it counts as shown until
	// KeepDeleted(false). Fresh says that it was seen for the first time meanwhile. One that is both came and went between
	// two looks, and counts as shown only if it was there before, in other files.
	Late, Fresh bool

	Cell   uint32
	Words  uint32
	Window uint32 // the first word of its window's block; 0: it has none

	Created int64    // nanoseconds since 1970; 0: unknown
	Release uint64   // when hidden and the cells are final: the number of the release in this file, from 1
	Values  []string // others may share them: do not write to them
}

// Open opens the file of that name. It returns fs.ErrNotExist when the file is gone, and ErrForeign, ErrVersion or
// ErrCorrupt for a file that readers leave out.
func (d *Dir) Open(name string) (*Reader, error) {
	r, err := d.open(name)
	if err != nil {
		return nil, fmt.Errorf("shmstore: read %s: %w", name, err)
	}
	return r, nil
}

func (d *Dir) open(name string) (*Reader, error) {
	pid, nonce, ok := parseFileName(name)
	if !ok {
		return nil, fmt.Errorf("%w: its name is not PID-NONCE%s", ErrForeign, fileSuffix)
	}
	file, err := d.openAt(name, unix.O_RDONLY)
	if err != nil {
		if errors.Is(err, unix.ELOOP) {
			return nil, fmt.Errorf("%w: it is a symbolic link", ErrForeign)
		}
		if errors.Is(err, unix.ENXIO) {
			return nil, fmt.Errorf("%w: it is no regular file", ErrForeign)
		}
		return nil, err
	}
	r := &Reader{dir: d, file: file, info: Info{Name: name}}
	if err = r.remap(true); err == nil {
		err = r.guard(func() error { return r.readHeader(d.id, pid, nonce) })
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// remap maps the whole file as it is now, after it has made sure that it is this user's own. It may have more links than
// one: a backup makes them. Of two names in the store only one is that of the header.
func (r *Reader) remap(opening bool) error {
	if r.file == nil {
		return corrupt("it grew after its process had ended")
	}
	var st unix.Stat_t
	if err := unix.Fstat(r.fd(), &st); err != nil {
		return err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%w: it is no regular file", ErrForeign)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%w: it belongs to uid %d", ErrForeign, st.Uid)
	case st.Nlink == 0 && opening:
		// It was unlinked meanwhile. Later on that means nothing: the file has gone into an archive that is newer than
		// what it is read for.
		return fs.ErrNotExist
	case st.Size < headerSize:
		return corrupt("it is %d bytes long, which is less than a header", st.Size)
	case st.Size > maxLimit:
		// No writer makes one, and the address space is not for it.
		return corrupt("it is %d bytes long", st.Size)
	case st.Size < int64(len(r.memory.Bytes)):
		// What was parsed may lie behind the new end.
		return corrupt("it was truncated from %d bytes to %d", len(r.memory.Bytes), st.Size)
	}
	memory, err := mapped.File(r.fd(), st.Size/wordSize*wordSize)
	if err != nil {
		return fmt.Errorf("map %d bytes: %w", st.Size, err)
	}
	r.memory.Unmap()
	r.memory, r.inode = memory, uint64(st.Ino)
	return nil
}

// guard runs fn, which reads the mapping, and gives ErrCorrupt when the file was truncated meanwhile. A fault is not enough
// to notice: what a page has left behind the end of a file reads as zeros.
func (r *Reader) guard(fn func() error) error {
	err := r.memory.Guard(fn)
	if errors.Is(err, fault.ErrTruncated) {
		err = corrupt("%v", err)
	}
	if e := r.measure(); e != nil {
		return e
	}
	if r.seen.size < int64(len(r.memory.Bytes)) {
		return corrupt("it was truncated from %d bytes to %d", len(r.memory.Bytes), r.seen.size)
	}
	return err
}

// measure brings size to the present. A closed file has the size that it has in the directory. When it has gone from there,
// nobody can change it any more.
func (r *Reader) measure() error {
	var st unix.Stat_t
	if r.file != nil {
		if err := unix.Fstat(r.fd(), &st); err != nil {
			return err
		}
		r.seen.size = st.Size
		return nil
	}
	err := unix.Fstatat(r.dir.fd(), r.info.Name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) || err == nil && uint64(st.Ino) != r.inode {
		return nil
	}
	if err == nil {
		r.seen.size = st.Size
	}
	return err
}

// closeFile closes the file, whose process has ended, and keeps it mapped: a process can map more files than it can have
// open.
func (r *Reader) closeFile() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}

func (r *Reader) readHeader(store [16]byte, pid int, nonce uint64) error {
	b := append([]byte(nil), r.memory.Bytes[:hdrChecksum+4]...)
	if string(b[:len(magic)]) != magic {
		return corrupt("it does not begin with %q", magic)
	}
	if o := encoding.Native.Uint32(b[hdrOrder:]); o != orderMark {
		return fmt.Errorf("%w: it was written in another byte order", ErrVersion)
	}
	v := int(encoding.Native.Uint32(b[hdrVersion:]))
	if v != version {
		return fmt.Errorf("%w: it has version %d, this program reads %d: run the onescrape that wrote it, or remove it", ErrVersion, v, version)
	}
	if encoding.Native.Uint32(b[hdrChecksum:]) != encoding.Checksum(b[:hdrChecksum]) {
		return corrupt("the header's checksum is wrong")
	}
	if [16]byte(b[hdrStore:]) != store {
		return fmt.Errorf("%w: it bears the id of another one", ErrForeign)
	}
	if encoding.Native.Uint64(b[hdrNonce:]) != nonce || int(encoding.Native.Uint32(b[hdrPID:])) != pid {
		return fmt.Errorf("%w: its name is not that of its header", ErrForeign)
	}
	boot, err := osfile.BootID()
	if err != nil {
		return err
	}
	r.info.PID, r.info.Nonce, r.info.Version = pid, nonce, v
	if r.info.Slot = int(int32(encoding.Native.Uint32(b[hdrSlot:]))); r.info.Slot < -1 {
		return corrupt("%d is no slot", r.info.Slot)
	}
	r.info.ThisBoot = boot == [16]byte(b[hdrBoot:])
	r.info.Started = time.Unix(0, int64(encoding.Native.Uint64(b[hdrStarted:])))
	r.info.StartedMono = encoding.Native.Uint64(b[hdrMono:])
	r.seen.used, r.seen.next = headerSize, headerSize
	return nil
}

func (r *Reader) fd() int { return int(r.file.Fd()) }

// Info returns what never changes about the file.
func (r *Reader) Info() Info { return r.info }

// State returns what the process says of itself now.
func (r *Reader) State() (s State, err error) {
	err = r.guard(func() error {
		m := &r.memory
		state := m.Load(hdrState)
		s.Ready, s.Drained = state&stateReady != 0, state&stateDrained != 0
		s.ReadyAt = m.Load(hdrReadyAt)
		s.Overflow = int(min(m.Load(hdrOverflow), 1<<31))
		s.Used, s.Reserved = int64(m.Load(hdrUsed)), int64(m.Load(hdrReserved))
		return nil
	})
	// Whatever is announced, no file holds more than its length.
	s.Used, s.Reserved = min(max(s.Used, 0), r.seen.size), min(max(s.Reserved, 0), r.seen.size)
	return s, r.wrap(err)
}

// Alive reports whether the process that wrote the file still has it open. Right after a process was reaped the answer may
// still be true for some milliseconds.
func (r *Reader) Alive() (bool, error) {
	if r.file == nil {
		return false, nil
	}
	alive, err := osfile.IsLocked(r.fd(), 0)
	return alive, r.wrap(err)
}

// Families returns the families parsed so far; a family's number is its index. Entries never change.
func (r *Reader) Families() []Family { return r.families }

// Series returns the series parsed so far. Refresh appends to it and, when it changes Layout, alters entries in place.
func (r *Reader) Series() []SeriesInfo { return r.series }

// Layout returns a number that Refresh changes whenever an entry of Series is not what it was.
func (r *Reader) Layout() uint64 { return r.seen.changes }

// Releases returns up to which number of release every series that the process has released by then is in Series as such,
// unless its record waits for another or has become another. Series may hold later releases too, but not all of those that
// went before them: Refresh looks at one series after the other while the process goes on.
func (r *Reader) Releases() uint64 { return r.seen.releases }

// Refresh parses what the process has announced since the last call. When a series was deleted or replaced it looks again
// at all of them. After ErrCorrupt the caller leaves the file out.
func (r *Reader) Refresh() error {
	if r.broken != nil {
		return r.broken
	}
	err := r.wrap(r.follow())
	if errors.Is(err, ErrCorrupt) {
		r.families, r.series, r.records = r.families[:r.announced], r.series[:r.checked], r.records[:r.checked]
		r.broken = err
	}
	return err
}

// follow repeats refresh as long as the writer is ahead of it. It may be so each time that we look, but not for ever.
func (r *Reader) follow() error {
	for range 1000 {
		err := r.guard(r.refresh)
		switch {
		case errors.Is(err, errMore):
		case errors.Is(err, errGrown):
			before := len(r.memory.Bytes)
			if err := r.remap(false); err != nil {
				return err
			}
			if len(r.memory.Bytes) == before {
				return corrupt("what it announces lies behind its end")
			}
		default:
			return err
		}
	}
	return corrupt("it grows faster than it can be read")
}

var (
	// errGrown: the file announces what lies behind the end that it had when it was mapped.
	errGrown = errors.New("grown")
	// errMore: a record speaks of a family that is not parsed yet.
	errMore = errors.New("more")
)

// sharedValues is the reader that had its first refresh last. Processes of one program make much the same series, so the
// next reader shares its label values where they are equal.
type sharedValues struct{ reader *Reader }

func (r *Reader) refresh() error {
	m := &r.memory
	if r.reuse.values != nil {
		r.reuse.from = r.reuse.values.reader
	}
	// Before the layout: the writer raises that before it counts the release.
	releases := m.Load(hdrReleases)
	layout := m.Load(hdrLayout)
	used := int64(m.Load(hdrUsed))
	switch {
	case used < r.seen.used || used%wordSize != 0:
		return corrupt("it ends at %d, after it ended at %d", used, r.seen.used)
	case used > int64(len(m.Bytes)), r.seen.size/wordSize*wordSize > int64(len(m.Bytes)):
		// Windows get their blocks without a record that tells of them.
		return errGrown
	}
	for r.seen.used < used {
		if err := r.parse(used); err != nil {
			return err
		}
	}
	// Series come after all families, because a record that is used again may be of a family that lies behind it.
	first := r.checked
	if layout != r.seen.layout {
		first = 0
	}
	r.reuse.arena = arena{}
	for i := first; i < len(r.series); i++ {
		before := r.records[i].state
		if i == r.checked {
			r.reuse.arena = arena{left: len(r.series) - i}
		}
		err := r.recheck(i)
		if errors.Is(err, errMore) && m.Load(hdrUsed) == uint64(used) {
			err = corrupt("at %d: a series of a family that there is not", r.records[i].offset())
		}
		if err != nil {
			return err
		}
		if i < r.checked && r.records[i].state != before {
			r.seen.changes++
		}
	}
	if r.reuse.values != nil {
		r.reuse.values.reader, r.reuse.values, r.reuse.from, r.reuse.pool = r, nil, nil, nil
	}
	if err := r.weigh(layout, first); err != nil {
		return err
	}
	r.seen.layout, r.seen.releases, r.announced, r.checked = layout, releases, len(r.families), len(r.series)
	if cap(r.reuse.scratch) > mostScratch {
		r.reuse.scratch = nil // a record may be of holes
	}
	return r.refreshAux()
}

// mostGrowth is for how many series a reader makes room at once, unless it has as many already.
const mostGrowth = 1 << 16

// mostScratch is how much memory a reader keeps for the next record that it copies.
const mostScratch = 64 << 10

// parse reads the record at next, which ends at used or before.
func (r *Reader) parse(used int64) error {
	m := &r.memory
	if r.seen.next+recHead > used {
		return corrupt("at %d: a record's head behind the end of all records", r.seen.next)
	}
	head := m.Bytes[r.seen.next : r.seen.next+recHead]
	length := int64(encoding.Native.Uint32(head[recLength:]))
	kind := encoding.Native.Uint16(head[recKind:])
	if length < recHead || length > maxRecord || length%wordSize != 0 || r.seen.next+length > used {
		return corrupt("at %d: a record of %d bytes where %d are left", r.seen.next, length, used-r.seen.next)
	}
	switch kind {
	case kindSeries:
		if length < seriesValues {
			return corrupt("at %d: a series record of %d bytes", r.seen.next, length)
		}
		if len(r.series) == cap(r.series) {
			// The others are as long as this one, or nearly. But a file of holes may announce any number of them.
			n := min(int((used-r.seen.next)/length)+1, max(mostGrowth, len(r.series)))
			if len(r.series) == 0 {
				r.series, r.records = r.reuse.pool.take(n)
			}
			r.series, r.records = slices.Grow(r.series, n), slices.Grow(r.records, n)
		}
		r.series = append(r.series, SeriesInfo{Free: true})
		r.records = append(r.records, record{word: uint32(r.seen.next / wordSize), length: uint32(length)})
	default:
		b := append([]byte(nil), m.Bytes[r.seen.next:r.seen.next+length]...)
		if encoding.Native.Uint32(b[recChecksum:]) != familyChecksum(b) {
			return corrupt("at %d: a record's checksum is wrong", r.seen.next)
		}
		switch kind {
		case kindJump:
			target := int64(0)
			if length == jumpSize {
				target = int64(encoding.Native.Uint64(b[jumpTarget:]))
			}
			if target < r.seen.next+length || target%wordSize != 0 || target >= used {
				return corrupt("at %d: a jump to %d", r.seen.next, target)
			}
			r.seen.next, r.seen.used = target, target
			return nil
		case kindFamily:
			f, known, err := decodeFamily(b[familyBody:])
			if err != nil {
				return fmt.Errorf("at %d: %w", r.seen.next, err)
			}
			r.families = append(r.families, f)
			r.seen.unknown = r.seen.unknown || !known
		default:
			r.seen.unknown = true
		}
	}
	r.seen.next += length
	r.seen.used = r.seen.next
	return nil
}

// recheck brings series i up to its record's state.
func (r *Reader) recheck(i int) error {
	m := &r.memory
	rec := &r.records[i]
	for range 100 {
		state := m.Load(rec.offset() + seriesState)
		if state == rec.state && state != 0 {
			return nil
		}
		var s SeriesInfo
		var born uint64
		var err error
		switch seriesStateOf(state) {
		case seriesFree:
			s = SeriesInfo{Free: true}
		case seriesShown, seriesHidden, seriesReleased:
			s, born, err = r.readSeries(i)
			s.Hidden = seriesStateOf(state) != seriesShown
			if seriesStateOf(state) == seriesReleased {
				s.Release = m.Load(rec.offset() + seriesNumber)
			}
		default:
			err = corrupt("at %d: a series in no state (%#x)", rec.offset(), state)
		}
		if m.Load(rec.offset()+seriesState) != state {
			// The writer was at it meanwhile, so neither what was read nor an error means anything.
			continue
		}
		if err != nil {
			return err
		}
		r.noteDeletion(i, state, &s)
		rec.state, rec.born = state, born
		r.series[i] = s
		return nil
	}
	// A writer that replaces one record so often does nothing else; what it held is over in any case.
	r.deleted.count, r.deleted.lost = r.deleted.count+1, r.deleted.lost || r.deleted.keeps
	r.series[i] = SeriesInfo{Free: true}
	rec.state = 0
	return nil
}

// readSeries reads the part of record i that only its writer's reuse of it changes.
func (r *Reader) readSeries(i int) (s SeriesInfo, born uint64, err error) {
	m := &r.memory
	offset, length := r.records[i].offset(), int64(r.records[i].length)
	r.reuse.scratch = slices.Grow(r.reuse.scratch[:0], int(length))
	b := r.reuse.scratch[:length]
	m.Copy(b, offset)
	body := int64(encoding.Native.Uint32(b[seriesBody:]))
	if body > length-seriesValues {
		return SeriesInfo{}, 0, corrupt("at %d: label values of %d bytes in a record of %d", offset, body, length)
	}
	b = b[:seriesValues+body]
	aux := encoding.Native.Uint64(b[seriesAux:])
	if encoding.Native.Uint32(b[recChecksum:]) != copiedChecksum(b) {
		return SeriesInfo{}, 0, corrupt("at %d: a series' checksum is wrong", offset)
	}
	cells := encoding.Native.Uint64(b[seriesCells:])
	s = SeriesInfo{
		Family:    encoding.Native.Uint32(b[recFamily:]),
		Exemplars: aux != 0,
		Words:     encoding.Native.Uint32(b[seriesWords:]),
		Created:   int64(encoding.Native.Uint64(b[seriesCreated:])),
	}
	if int(s.Family) >= len(r.families) {
		return SeriesInfo{}, 0, errMore
	}
	f := &r.families[s.Family]
	if int(s.Words) != f.Words() {
		return SeriesInfo{}, 0, corrupt("at %d: a series of %s with %d cells, which have %d", offset, f.Name, s.Words, f.Words())
	}
	if cells%wordSize != 0 || cells < headerSize {
		return SeriesInfo{}, 0, corrupt("at %d: cells at %d", offset, cells)
	}
	if cells > uint64(len(m.Bytes)) || int(cells/wordSize)+f.Words() > len(m.Words) {
		return SeriesInfo{}, 0, errGrown
	}
	s.Cell = uint32(cells / wordSize)
	if f.Window != nil && aux != 0 {
		if aux%wordSize != 0 || aux < headerSize {
			return SeriesInfo{}, 0, corrupt("at %d: a window at %d", offset, aux)
		}
		if aux > uint64(len(m.Bytes)) || int(aux/wordSize)+f.Window.Words() > len(m.Words) {
			return SeriesInfo{}, 0, errGrown
		}
		s.Window = uint32(aux / wordSize)
	}
	born = encoding.Native.Uint64(b[seriesBorn:])
	if r.reuse.from != nil && i < len(r.reuse.from.series) && sameValues(b[seriesValues:], r.reuse.from.series[i].Values, len(f.Labels)) {
		s.Values = r.reuse.from.series[i].Values
		return s, born, nil
	}
	// The values are parts of one string.
	d := encoding.Decoder{B: b[seriesValues:]}
	all := r.reuse.arena.text(d.B)
	s.Values = r.reuse.arena.strings(len(f.Labels))
	for i := range s.Values {
		n := len(d.Text())
		end := len(all) - len(d.B)
		s.Values[i] = all[end-n : end]
		d.Bad = d.Bad || !fits(s.Values[i])
	}
	if d.Bad || len(d.B) > 0 {
		return SeriesInfo{}, 0, corrupt("at %d: the label values of a series of %s do not fill its record", offset, f.Name)
	}
	return s, born, nil
}

// sameValues reports whether the label values in a record are n, and these.
func sameValues(b []byte, values []string, n int) bool {
	if len(values) != n {
		return false
	}
	d := encoding.Decoder{B: b}
	for _, v := range values {
		if string(d.Text()) != v {
			return false
		}
	}
	return !d.Bad && len(d.B) == 0
}

// Read calls fn with the words of the file, which fn must read with atomic loads. Those of series s are
// words[s.Cell:s.Cell+s.Words]. They are valid during fn only. ErrLayoutChanged means that cells may belong to another
// series since the last Refresh: throw away what fn read, and call Refresh. Read allocates nothing.
func (r *Reader) Read(fn func(words []uint64)) error {
	err := r.guard(func() error {
		if r.memory.Load(hdrLayout) != r.seen.layout {
			return ErrLayoutChanged
		}
		fn(r.memory.Words)
		if r.memory.Load(hdrLayout) != r.seen.layout {
			return ErrLayoutChanged
		}
		return nil
	})
	if errors.Is(err, ErrLayoutChanged) {
		return err
	}
	return r.wrap(err)
}

// ReadStable is Read for a process that changes its layout all the time: it makes sure of each series by itself and
// calls fn with a copy of its cells, valid during fn only. Series that were replaced meanwhile are passed over; the index
// is that of Series. It may be called after any Refresh.
func (r *Reader) ReadStable(fn func(i int, cells []uint64)) error {
	var buf []uint64
	return r.wrap(r.guard(func() error {
		m := &r.memory
		for i, s := range r.series {
			if s.Free {
				continue
			}
			buf = buf[:0]
			if f := &r.families[s.Family]; f.Native != nil {
				var still bool
				if buf, still = f.stillNative(buf, m.Words[s.Cell:s.Cell+s.Words]); !still {
					continue
				}
			}
			for j := len(buf); j < int(s.Words); j++ {
				buf = append(buf, atomic.LoadUint64(&m.Words[int(s.Cell)+j]))
			}
			if r.families[s.Family].timed() {
				v, at, set, ok := LoadTimed(m.Words[s.Cell : s.Cell+s.Words])
				if !ok {
					continue
				}
				clear(buf)
				if set {
					StoreTimed(buf, v, at)
				}
			}
			if !sameSeries(r.records[i].state, m.Load(r.records[i].offset()+seriesState)) {
				continue
			}
			fn(i, buf)
		}
		return nil
	}))
}

// AppendWindow appends, in fn of ReadStable, what is counted in the window of series i as Window.AppendCounts does, or
// that it is nothing if the series was replaced meanwhile or has no window.
func (r *Reader) AppendWindow(to []uint64, i int, now, length uint64, budget *int) []uint64 {
	n := len(to)
	if s := &r.series[i]; s.Window != 0 {
		to = r.families[s.Family].Window.AppendCounts(to, r.memory.Words, int(s.Window), now, length, budget)
		if sameSeries(r.records[i].state, r.memory.Load(r.records[i].offset()+seriesState)) {
			return to
		}
	}
	return append(to[:n], 0)
}

// sameSeries reports whether a record that went from one state to another has been the same series throughout: shown,
// then hidden, then released.
func sameSeries(before, now uint64) bool {
	steps := now>>8 - before>>8
	switch seriesStateOf(now) {
	case seriesHidden:
		return steps <= 1
	case seriesReleased:
		return steps <= 2 && (steps < 2 || seriesStateOf(before) == seriesShown)
	default:
		return now == before
	}
}

// Known reports whether this program knows all that it has parsed. A file with a part that it passed over must not be folded.
func (r *Reader) Known() bool { return !r.seen.unknown }

// Close closes and unmaps the file.
func (r *Reader) Close() error {
	err := r.memory.Unmap()
	if r.file != nil {
		err = errors.Join(err, r.file.Close())
	}
	return err
}

func (r *Reader) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("shmstore: read %s: %w", r.info.Name, err)
}
