package foreign

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/internal/fault"
)

// Reader follows one file. It offers families, series and cells as a shmstore.Reader does: the cells are made anew, as
// shmstore has them, from the file's float64s each time that they are read. It is for one goroutine at a time, and what
// it offers is as of the last View.Update.
type Reader struct {
	lib  *Library
	kind Kind
	info shmstore.Info
	dir  *os.File // where it lies, open as long as the view
	name string   // in there

	inode  inode
	size   int64 // of the file
	memory []byte
	mapped bool   // memory is the file; otherwise it is copied
	copied []byte // what was used of the file when it was mapped last

	used    int64 // entries before it are parsed
	doubles int   // in an entry; 0: not known yet, because there is none
	alive   bool

	layout layout
}

// inode identifies a file among those that exist at the same time.
type inode struct{ device, number uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{uint64(st.Dev), st.Ino} }

// newReader returns a Reader of a file of which nothing is read yet.
func newReader(lib *Library, kind Kind, dir *os.File, name string, st *unix.Stat_t) *Reader {
	r := &Reader{lib: lib, kind: kind, dir: dir, name: name, inode: inodeOf(st)}
	r.info = shmstore.Info{
		Name:    filepath.Join(dir.Name(), name),
		PID:     kind.PID,
		Slot:    -1,
		Nonce:   st.Ino,
		Started: time.Unix(0, st.Mtim.Nano()),
	}
	if lib.Monotonic {
		// The library compares times of all files, whichever boot they are of, and so do we.
		r.info.ThisBoot = true
		ago := max(time.Since(r.info.Started), 0)
		r.info.StartedMono = max(shmstore.Monotonic(), uint64(ago)) - uint64(ago)
	}
	r.layout.init()
	return r
}

// Info returns what never changes about the file. Its Name is the whole path.
func (r *Reader) Info() shmstore.Info { return r.info }

// State returns how large the file is. A process that has a file counts as ready.
func (r *Reader) State() (shmstore.State, error) {
	return shmstore.State{Ready: true, ReadyAt: r.info.StartedMono, Used: r.used, Reserved: r.size}, nil
}

// Alive reports whether the process counts as living: in a directory that nobody compacts every file does, as it does to
// the library.
func (r *Reader) Alive() (bool, error) { return r.alive, nil }

// Refresh does nothing: View.Update has brought the Reader up to date.
func (r *Reader) Refresh() error { return nil }

// Families returns the families of the file; a family's number is its index. Entries never change.
func (r *Reader) Families() []shmstore.Family { return r.layout.families }

// Series returns the series of the file. View.Update appends to it and, when it changes Layout, alters entries in
// place.
func (r *Reader) Series() []shmstore.SeriesInfo { return r.layout.series }

// Layout returns a number that View.Update changes whenever an entry of Series is not what it was.
func (r *Reader) Layout() uint64 { return r.layout.changes }

// Read calls fn with cells that hold what the file holds now: those of series s are words[s.Cell:s.Cell+s.Words]. They
// are valid during fn only.
func (r *Reader) Read(fn func(words []uint64)) error {
	if int64(len(r.memory)) < r.used {
		// No copy could be kept.
		return r.wrap(errGone)
	}
	if err := r.guard(func() error { r.layout.fill(r); return nil }); err != nil {
		return r.wrap(err)
	}
	fn(r.layout.words)
	return nil
}

// ReadStable is Read series by series.
func (r *Reader) ReadStable(fn func(i int, cells []uint64)) error {
	return r.Read(func(words []uint64) {
		for i := range r.layout.series {
			if s := &r.layout.series[i]; !s.Free {
				fn(i, words[s.Cell:s.Cell+s.Words])
			}
		}
	})
}

// guard runs fn, which reads memory, and gives ErrCorrupt when the file was truncated meanwhile. A fault is not enough
// to notice: what a page has left behind the end of a file reads as zeros.
func (r *Reader) guard(fn func() error) error {
	if !r.mapped {
		return fn()
	}
	err := fault.Guard(r.memory, fn)
	if errors.Is(err, fault.ErrTruncated) {
		return corrupt("%v", err)
	}
	var st unix.Stat_t
	if e := unix.Fstatat(int(r.dir.Fd()), r.name, &st, unix.AT_SYMLINK_NOFOLLOW); e != nil || inodeOf(&st) != r.inode {
		// It has another name now, or none, and a file that goes is not truncated before.
		return err
	}
	if st.Size < int64(len(r.memory)) {
		return corrupt("it was truncated from %d bytes to %d", len(r.memory), st.Size)
	}
	return err
}

// fetch brings memory up to the file as it is now, mapped or as a copy, and parses what is new. errGone: there is
// another file of that name now, or none. errReplaced: there is another file, of the same inode.
func (r *Reader) fetch(st *unix.Stat_t, mapped bool, k *keys) error {
	r.size = st.Size
	if mapped && r.mapped && int64(len(r.memory)) == st.Size && r.unchanged() {
		return nil
	}
	// An inode that nobody has open or mapped may become another file's.
	known, pinned := r.memory, r.mapped
	if !mapped || !r.mapped || int64(len(r.memory)) != st.Size {
		if err := r.open(); err != nil {
			return err
		}
	}
	err := r.guard(func() error {
		if !pinned && !r.begins(known) {
			return errReplaced
		}
		if err := r.parse(k); err != nil {
			return err
		}
		r.layout.wake(r)
		return nil
	})
	if err != nil || mapped {
		return err
	}
	return r.keepCopy()
}

// open maps the file.
func (r *Reader) open() error {
	file, err := openFile(r.dir, r.name)
	if err != nil {
		return err
	}
	defer file.Close()
	var now unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &now); err != nil {
		return err
	}
	if inodeOf(&now) != r.inode {
		return errGone
	}
	r.size = now.Size
	return r.mapFile(file)
}

// begins reports whether memory has the entries that were parsed, which known is a copy of. Only their values change.
func (r *Reader) begins(known []byte) bool {
	if r.used == 0 {
		return true
	}
	used, err := usedLength(r.memory)
	if err != nil || used < r.used || used > int64(len(r.memory)) || r.used > int64(len(known)) {
		return false
	}
	from := int64(headSize)
	return r.lib.walk(known, from, r.used, r.doubles, func(_ []byte, value int64) error {
		if !bytes.Equal(r.memory[from:value], known[from:value]) {
			return errReplaced
		}
		from = value + int64(r.doubles)*doubleSize
		return nil
	}) == nil
}

// unchanged reports whether a file that is mapped has nothing but values that may be new.
func (r *Reader) unchanged() bool {
	if len(r.layout.unset) > 0 {
		return false
	}
	used := int64(-1)
	err := fault.Guard(r.memory, func() (err error) {
		used, err = usedLength(r.memory)
		return err
	})
	return err == nil && used == max(r.used, headSize)
}

var (
	// errGone: a file that was listed is no longer there.
	errGone = errors.New("it has gone")
	// errReplaced: a file is not the one that it was, though it has its inode.
	errReplaced = errors.New("it was replaced")
)

func (r *Reader) mapFile(file *os.File) error {
	switch {
	case r.size == 0:
		r.letGo()
		r.memory = nil
		return nil
	case r.size > maxUsed<<1:
		// No library makes one.
		return corrupt("it is %d bytes long", r.size)
	}
	memory, err := unix.Mmap(int(file.Fd()), 0, int(r.size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		// What was known stays.
		return fmt.Errorf("map %d bytes: %w", r.size, err)
	}
	r.letGo()
	r.memory, r.mapped = memory, true
	return nil
}

// keepCopy makes memory a copy of what is used of the file, which has been parsed: what a broken one only announces
// takes no memory. So it keeps nobody from a lease, and its values stay known until the next fetch.
func (r *Reader) keepCopy() error {
	if !r.mapped {
		return nil
	}
	err := r.guard(func() error {
		r.copied = append(r.copied[:0], r.memory[:r.used]...)
		return nil
	})
	r.letGo()
	r.memory = r.copied
	return err
}

// letGo unmaps the file.
func (r *Reader) letGo() {
	if r.mapped {
		unix.Munmap(r.memory)
		r.memory, r.mapped = nil, false
	}
}

// parse reads the entries that are new.
func (r *Reader) parse(k *keys) error {
	used, err := usedLength(r.memory)
	if err != nil {
		return err
	}
	switch {
	case used > int64(len(r.memory)):
		return corrupt("%d bytes are said to be used of %d", used, len(r.memory))
	case used < r.used:
		return corrupt("it ends at %d, after it ended at %d", used, r.used)
	case used == r.used, used == headSize:
		return nil
	}
	sense := func(key []byte) error { _, err := k.get(&r.kind, key); return err }
	if r.doubles == 0 {
		if r.doubles, err = r.lib.judge(r.memory, used, sense); err != nil {
			return err
		}
	}
	err = r.lib.walk(r.memory, max(r.used, headSize), used, r.doubles, func(key []byte, value int64) error {
		s, err := k.get(&r.kind, key)
		if err != nil {
			return err
		}
		return r.layout.add(s, r.kind.Process, value)
	})
	if err != nil && r.lib.walk(r.memory, headSize, used, r.doubles, func([]byte, int64) error { return nil }) != nil &&
		r.lib.mixed(r.memory, used) {
		return r.lib.mixture()
	}
	if err == nil {
		r.used = used
	}
	return err
}

func (r *Reader) close() { r.letGo() }

func (r *Reader) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("shmstore: read %s: %w", r.info.Name, err)
}

// openFile opens a file of a directory, never through a link, never waiting for the other end of a FIFO. Where another
// process has leased the file for a moment it tries again.
func openFile(dir *os.File, name string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	for tries := 0; ; tries++ {
		fd, err := unix.Openat(int(dir.Fd()), name, flags, 0)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), name), nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN) && tries < 1000:
			time.Sleep(time.Millisecond)
		case errors.Is(err, unix.ENOENT):
			return nil, errGone
		default:
			return nil, &os.PathError{Op: "open", Path: filepath.Join(dir.Name(), name), Err: err}
		}
	}
}
