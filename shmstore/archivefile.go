package shmstore

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"maps"
	"slices"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
	"github.com/onescrape/onescrape/shmstore/internal/osfile"
)

const (
	archiveName = "archive"
	// reserveName is where the next generation is written. It holds the one before this, and space for the next.
	reserveName = "archive.old"

	archiveMagic = "onescrar"

	arcVersion  = 8
	arcOrder    = 12
	arcStore    = 16 // 16 bytes
	arcBoot     = 32 // 16 bytes
	arcGen      = 48
	arcLength   = 56 // of the payload
	arcPayload  = 64 // checksum of the payload
	arcChecksum = 68
	arcHead     = 72
	arcBody     = 128

	maxArchive = 1 << 32
)

// A payload cannot be much longer than what the file system stores of the file: a fold has the space reserved, and a file
// system that compresses it does not get that far. It keeps a file of some kilobytes from claiming gigabytes.
const (
	mostExpansion = 100
	freeExpansion = 64 << 20
	storedBlock   = 512 // bytes, the unit of Stat_t.Blocks
)

// pieceSize is how much of a payload is read at once before its checksum is known to be right.
const pieceSize = 256 << 10

// archiveHead is the part of an archive that tells one from another.
type archiveHead struct {
	inode      uint64
	generation uint64
	length     int64
	checksum   uint32
	thisBoot   bool
}

// end returns where the payload ends in the file.
func (h *archiveHead) end() int64 { return arcBody + h.length }

// stamp is a state of a file that may be damaged, so that it need not be read again before it changes.
type stamp struct {
	inode        uint64
	size         int64
	mtime, ctime unix.Timespec
}

// stamp returns the zero stamp for a file that cannot be looked at.
func (d *Dir) stamp(name string) (s stamp) {
	var st unix.Stat_t
	if unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		s = stamp{inode: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
	}
	return s
}

// stampSettles is for how long a file may change once more without another stamp: clocks of file systems tick.
const stampSettles = 2 * time.Second

// settled reports whether any later change gives the file another stamp.
func (s *stamp) settled() bool {
	return *s == stamp{} || time.Since(time.Unix(0, s.ctime.Nano())).Abs() > stampSettles
}

// readArchiveHead reads the head of an archive that is open.
func (d *Dir) readArchiveHead(f *os.File) (h archiveHead, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return h, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() {
		return h, fmt.Errorf("%w: no regular file of uid %d", ErrForeign, os.Geteuid())
	}
	b := make([]byte, arcHead)
	if n, err := f.ReadAt(b, 0); n < arcHead {
		if err != io.EOF {
			return h, err
		}
		return h, corrupt("%d bytes long, which is less than a header", n)
	}
	if string(b[:8]) != archiveMagic {
		return h, corrupt("it does not begin with %q", archiveMagic)
	}
	if o := encoding.Native.Uint32(b[arcOrder:]); o != orderMark {
		return h, fmt.Errorf("%w: it was written in another byte order", ErrVersion)
	}
	if v := encoding.Native.Uint32(b[arcVersion:]); v != version {
		return h, fmt.Errorf("%w: it has version %d, this program knows %d: run the onescrape that wrote it", ErrVersion, v, version)
	}
	if encoding.Native.Uint32(b[arcChecksum:]) != encoding.Checksum(b[:arcChecksum]) {
		return h, corrupt("the header's checksum is wrong")
	}
	if [16]byte(b[arcStore:]) != d.id {
		return h, fmt.Errorf("%w: it bears the id of another store", ErrForeign)
	}
	boot, err := osfile.BootID()
	if err != nil {
		return h, err
	}
	h = archiveHead{
		inode:      st.Ino,
		generation: encoding.Native.Uint64(b[arcGen:]),
		checksum:   encoding.Native.Uint32(b[arcPayload:]),
		length:     int64(encoding.Native.Uint64(b[arcLength:])),
		thisBoot:   boot == [16]byte(b[arcBoot:]),
	}
	if h.length < 0 || h.length > maxArchive || h.end() > st.Size || h.generation == 0 {
		return h, corrupt("it announces %d bytes and has %d", h.length, st.Size)
	}
	if stored := int64(st.Blocks) * storedBlock; h.length > freeExpansion+mostExpansion*stored {
		return h, corrupt("it announces %d bytes, and %d are stored", h.length, stored)
	}
	return h, nil
}

// openArchive opens what has the name of an archive. What cannot be one is ErrForeign; other errors but fs.ErrNotExist are
// the system's.
func (d *Dir) openArchive(name string) (*os.File, error) {
	f, err := d.openAt(name, unix.O_RDONLY)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return nil, fmt.Errorf("%w: it is no regular file", ErrForeign)
	}
	return f, err
}

// archiveHead returns the head of the archive that has the name now, the zero head when there is none.
func (d *Dir) archiveHead(name string) (archiveHead, error) {
	f, err := d.openArchive(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return archiveHead{}, nil
		}
		return archiveHead{}, fmt.Errorf("shmstore: %w", err)
	}
	defer f.Close()
	h, err := d.readArchiveHead(f)
	if err != nil {
		return archiveHead{}, fmt.Errorf("shmstore: read %s: %w", name, err)
	}
	return h, nil
}

// errMoved: the archive was replaced while it was read.
var errMoved = errors.New("the archive was replaced")

// readArchive reads the archive of that name. It returns nil and the zero head when there is none. The file may be the
// next generation's by the time that it is read: then it is errMoved.
func (d *Dir) readArchive(name string) (*Archive, archiveHead, error) {
	before := d.stamp(name)
	settled := before.settled()
	a, h, err := d.tryArchive(name)
	if errors.Is(err, ErrCorrupt) {
		// A fold writes the next generation into the file that was the archive two generations ago.
		if now, e := d.archiveHead(name); e == nil && now != h {
			return nil, archiveHead{}, errMoved
		}
		if !settled || d.stamp(name) != before {
			a, h, err = d.tryArchive(name)
		}
	}
	if err != nil {
		return nil, h, fmt.Errorf("shmstore: read %s: %w", name, err)
	}
	return a, h, nil
}

func (d *Dir) tryArchive(name string) (*Archive, archiveHead, error) {
	f, err := d.openArchive(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, archiveHead{}, nil
		}
		return nil, archiveHead{}, err
	}
	defer f.Close()
	h, err := d.readArchiveHead(f)
	if err != nil {
		return nil, h, err
	}
	b, err := readChecked(f, arcBody, h.length, 0, h.checksum)
	if err != nil {
		return nil, h, err
	}
	a, err := decodeArchive(b)
	if err != nil {
		return nil, h, err
	}
	if a.image != nil {
		a.image.since = h.generation
		if t, _, ok := readTable(f, &h, 0); ok && t.length == int64(len(a.image.b)) && t.sum == a.image.sum {
			a.image.since = t.since
		}
	}
	a.takeHead(&h)
	return a, h, nil
}

// readRest reads the archive that has the name, if its families are those of last, which then need not be read. It returns nil
// when they are not, or that cannot be known.
func (d *Dir) readRest(name string, last *Archive) (*Archive, archiveHead) {
	if last == nil || last.image == nil {
		return nil, archiveHead{}
	}
	f, err := d.openArchive(name)
	if err != nil {
		return nil, archiveHead{}
	}
	defer f.Close()
	h, err := d.readArchiveHead(f)
	if err != nil || !h.thisBoot {
		return nil, archiveHead{}
	}
	t, _, ok := readTable(f, &h, 0)
	img := last.image
	if !ok || t.since != img.since || t.sum != img.sum || t.length != int64(len(img.b)) {
		return nil, archiveHead{}
	}
	b, err := readChecked(f, arcBody+t.length, h.length-t.length, img.sum, h.checksum)
	if err != nil {
		return nil, archiveHead{}
	}
	a, err := decodeParts(b)
	if err != nil || len(a.Families) > 0 || a.LeftOut > 0 {
		return nil, archiveHead{}
	}
	a.AgedAt, a.Families, a.image, a.unknown = last.AgedAt, last.Families, img, last.unknown
	a.takeHead(&h)
	return a, h
}

// takeHead takes over what the head of its file says.
func (a *Archive) takeHead(h *archiveHead) {
	a.Generation, a.ThisBoot, a.checksum = h.generation, h.thisBoot, h.checksum
	if !a.ThisBoot {
		a.forgetTimes()
	}
}

// readChecked reads n bytes of a file, which continue the checksum from sum to want. Only when they do is memory allocated for
// all of them: a length is what anything may have written into the file.
func readChecked(f io.ReaderAt, from, n int64, sum, want uint32) ([]byte, error) {
	if n > pieceSize {
		pieces := sum
		err := eachPiece(f, from, n, func(b []byte) { pieces = crc32.Update(pieces, encoding.Castagnoli, b) })
		if err == nil && pieces != want {
			err = corrupt("its checksum is wrong")
		}
		if err != nil {
			return nil, err
		}
	}
	b := make([]byte, n)
	if err := readWhole(f, b, from); err != nil {
		return nil, err
	}
	if crc32.Update(sum, encoding.Castagnoli, b) != want {
		return nil, corrupt("its checksum is wrong")
	}
	return b, nil
}

// eachPiece calls do with one piece after the other of n bytes of a file, each a multiple of 16 bytes long but the last. do
// must not keep it.
func eachPiece(f io.ReaderAt, from, n int64, do func(b []byte)) error {
	piece := make([]byte, min(pieceSize, n))
	for at := int64(0); at < n; at += pieceSize {
		b := piece[:min(pieceSize, n-at)]
		if err := readWhole(f, b, from+at); err != nil {
			return err
		}
		do(b)
	}
	return nil
}

// readWhole fills b from an offset of a file.
func readWhole(f io.ReaderAt, b []byte, at int64) error {
	if n, err := f.ReadAt(b, at); n < len(b) {
		if err != io.EOF {
			return err
		}
		return corrupt("it ends early")
	}
	return nil
}

// forgetTimes makes times of an earlier boot's clock the earliest of this one's.
func (a *Archive) forgetTimes() {
	a.AgedAt = 0
	for i := range a.Families {
		a.Families[i].ReadyAt = 0
	}
	a.image = nil
}

// archivedCache is what a writer knows of the archive: up to which release its series are archived. It reads the table
// behind the payload, never the families. While something waits to be archived, the writer reads the head of the archive
// once a second, or once for lookEvery new series, also when nobody folds.
type archivedCache struct {
	number uint64
	head   archiveHead
	looked time.Time
	asked  int // times since then
}

// lookEvery is so many new series that one look at the head of the archive costs little beside adding them.
const lookEvery = 256

func (c *archivedCache) get(d *Dir, nonce uint64) uint64 {
	if c.asked++; c.asked < lookEvery && time.Since(c.looked) < time.Second {
		return c.number
	}
	c.looked, c.asked = time.Now(), 0
	f, err := d.openArchive(archiveName)
	if err != nil {
		return c.number
	}
	defer f.Close()
	head, err := d.readArchiveHead(f)
	if err != nil || head == c.head {
		return c.number
	}
	// With or without a table, it is not read again before there is another archive.
	c.head = head
	if _, number, ok := readTable(f, &head, nonce); ok {
		c.number = max(c.number, number)
	}
	return c.number
}

// Behind the payload of an archive lies a table of what it has taken from living processes, so that a writer need not read
// the families to know which of its series are archived. Programs that do not know the table pass over it, and a fold by one
// leaves an old table there. So the table names the archive that it belongs to; without a valid one nothing counts as
// archived. FORMAT.md has every byte.
const (
	tabMagic = "onescrtb"

	tabGen      = 8  // the generation of the archive, and
	tabPayload  = 16 // the checksum of its payload
	tabEntries  = 20 // how many there are
	tabSince    = 24 // the generation that wrote the families first as they are now
	tabLength   = 32 // of the part of the payload that holds them
	tabSum      = 40 // checksum of that part
	tabChecksum = 44 // of the bytes before and the entries
	tabHead     = 48
	tabEntry    = 16 // nonce, release

	// maxEntries is more than there are processes. An archive that has taken from more has no table.
	maxEntries = 1 << 18
)

// tableAt returns where the table of an archive begins whose payload ends there.
func tableAt(end int64) int64 { return encoding.Align(end, wordSize) }

// table is the head of an archive's table, without its entries.
type table struct {
	since  uint64
	length int64
	sum    uint32
}

// appendTable appends the table of an archive, whose payload has that checksum.
func appendTable(b []byte, a *Archive, payload uint32) []byte {
	if len(a.ArchivedThrough) > maxEntries {
		return b
	}
	start := len(b)
	b = append(b, tabMagic...)
	b = encoding.AppendUint64(b, a.Generation)
	b = encoding.AppendUint32(b, payload)
	b = encoding.AppendUint32(b, uint32(len(a.ArchivedThrough)))
	b = encoding.AppendUint64(b, a.image.since)
	b = encoding.AppendUint64(b, uint64(len(a.image.b)))
	b = encoding.AppendUint32(b, a.image.sum)
	b = encoding.AppendUint32(b, 0)
	for _, nonce := range slices.Sorted(maps.Keys(a.ArchivedThrough)) {
		b = encoding.AppendUint64(b, nonce)
		b = encoding.AppendUint64(b, a.ArchivedThrough[nonce])
	}
	t := b[start:]
	encoding.Native.PutUint32(t[tabChecksum:], encoding.Checksum(t[:tabChecksum], t[tabHead:]))
	return b
}

// readTable reads the table of the archive with that head, and up to which release the archive has what the process with the
// nonce released; ok is false when there is no table, or another archive's.
func readTable(f io.ReaderAt, h *archiveHead, nonce uint64) (t table, release uint64, ok bool) {
	head := make([]byte, tabHead)
	at := tableAt(h.end())
	if readWhole(f, head, at) != nil || string(head[:8]) != tabMagic {
		return t, 0, false
	}
	entries := encoding.Native.Uint32(head[tabEntries:])
	if encoding.Native.Uint64(head[tabGen:]) != h.generation || encoding.Native.Uint32(head[tabPayload:]) != h.checksum || entries > maxEntries {
		return t, 0, false
	}
	sum := encoding.Checksum(head[:tabChecksum])
	err := eachPiece(f, at+tabHead, int64(entries)*tabEntry, func(b []byte) {
		sum = crc32.Update(sum, encoding.Castagnoli, b)
		for ; len(b) > 0; b = b[tabEntry:] {
			if encoding.Native.Uint64(b) == nonce {
				release = encoding.Native.Uint64(b[wordSize:])
			}
		}
	})
	if err != nil || sum != encoding.Native.Uint32(head[tabChecksum:]) {
		return t, 0, false
	}
	t = table{
		since:  encoding.Native.Uint64(head[tabSince:]),
		length: int64(encoding.Native.Uint64(head[tabLength:])),
		sum:    encoding.Native.Uint32(head[tabSum:]),
	}
	return t, release, t.length >= 0 && t.length <= h.length
}
