package shmstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sort"
	"time"

	"golang.org/x/sys/unix"
)

// Archive is what is kept of processes that have died and whose files are gone: one file of the store, written anew by
// each fold. It is never changed once it is made or read.
type Archive struct {
	Generation uint64 // from 1
	ThisBoot   bool   // written since the kernel started, so its times of Monotonic compare
	AgedAt     uint64 // when ages were last added to, on Monotonic's clock; 0: before this boot, or never
	// Folded names files whose content the archive holds and which may still be in the directory, where they count no more.
	Folded []string
	// Taken says for living files, by nonce, up to which number of release their released series are in the archive.
	Taken    map[uint64]uint64
	Families []ArchivedFamily
	// LeftOut is how many series of the file are not in Families, because no exposition may have them.
	LeftOut int

	checksum uint32 // of the file that it was read from
	unknown  bool   // there is something in it that this program has passed over
}

// ArchivedFamily is a definition with the series that dead processes had of it. There is one for each Key.
type ArchivedFamily struct {
	Family
	Ready   bool   // a process that had it said that it serves
	ReadyAt uint64 // when the last one did, on Monotonic's clock; 0: before this boot
	Series  []ArchivedSeries
}

// ArchivedSeries is the sum of one series over dead processes.
type ArchivedSeries struct {
	Values  []string
	Created time.Time     // the oldest
	Age     time.Duration // for how long no process was seen with the series
	Words   []uint64      // what package aggregate makes of the cells; FORMAT.md has it

	Exemplars []Exemplar // the newest of each counter or bucket
}

// names returns the folded files as a set.
func (a *Archive) names() map[string]bool {
	set := map[string]bool{}
	if a != nil {
		for _, n := range a.Folded {
			set[n] = true
		}
	}
	return set
}

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

// archiveHead is the part of an archive that tells one from another.
type archiveHead struct {
	inode      uint64
	generation uint64
	length     int64
	checksum   uint32
	thisBoot   bool
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
	if o := native.Uint32(b[arcOrder:]); o != orderMark {
		return h, fmt.Errorf("%w: it was written in another byte order", ErrVersion)
	}
	if v := native.Uint32(b[arcVersion:]); v != version {
		return h, fmt.Errorf("%w: it has version %d, this program knows %d: run the onescrape that wrote it", ErrVersion, v, version)
	}
	if native.Uint32(b[arcChecksum:]) != checksum(b[:arcChecksum]) {
		return h, corrupt("the header's checksum is wrong")
	}
	if [16]byte(b[arcStore:]) != d.id {
		return h, fmt.Errorf("%w: it bears the id of another store", ErrForeign)
	}
	boot, err := bootID()
	if err != nil {
		return h, err
	}
	h = archiveHead{
		inode:      st.Ino,
		generation: native.Uint64(b[arcGen:]),
		checksum:   native.Uint32(b[arcPayload:]),
		length:     int64(native.Uint64(b[arcLength:])),
		thisBoot:   boot == [16]byte(b[arcBoot:]),
	}
	if h.length < 0 || h.length > maxArchive || arcBody+h.length > st.Size || h.generation == 0 {
		return h, corrupt("it announces %d bytes and has %d", h.length, st.Size)
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
	a, h, err := d.tryArchive(name)
	if errors.Is(err, ErrCorrupt) {
		// A folder writes the next generation into the file that was the archive two generations ago.
		if now, e := d.archiveHead(name); e == nil && now != h {
			return nil, archiveHead{}, errMoved
		}
		a, h, err = d.tryArchive(name)
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
	b := make([]byte, h.length)
	if n, err := f.ReadAt(b, arcBody); int64(n) < h.length {
		if err != io.EOF {
			return nil, h, err
		}
		return nil, h, corrupt("it ends early")
	}
	if checksum(b) != h.checksum {
		return nil, h, corrupt("its checksum is wrong")
	}
	a, err := decodeArchive(b)
	if err != nil {
		return nil, h, err
	}
	a.Generation, a.ThisBoot, a.checksum = h.generation, h.thisBoot, h.checksum
	if !a.ThisBoot {
		a.forgetTimes()
	}
	return a, h, nil
}

// forgetTimes makes times of an earlier boot's clock the earliest of this one's.
func (a *Archive) forgetTimes() {
	a.AgedAt = 0
	for i := range a.Families {
		a.Families[i].ReadyAt = 0
	}
}

// Tags of an archive's parts. A folder leaves an archive alone that has one which it does not know.
const (
	arcTagEnd    = 0
	arcTagFolded = 1
	arcTagTaken  = 2
	arcTagFamily = 3
	// arcTagExemplar is an exemplar of a series of the family before it.
	arcTagExemplar = 4
)

func appendArchive(b []byte, a *Archive) []byte {
	b = appendUint64(b, a.AgedAt)
	for _, name := range a.Folded {
		b = native.AppendUint16(b, arcTagFolded)
		b = appendString(b, name)
	}
	nonces := make([]uint64, 0, len(a.Taken))
	for nonce := range a.Taken {
		nonces = append(nonces, nonce)
	}
	sort.Slice(nonces, func(i, j int) bool { return nonces[i] < nonces[j] })
	for _, nonce := range nonces {
		b = native.AppendUint16(b, arcTagTaken)
		b = appendUint64(b, nonce)
		b = appendUint64(b, a.Taken[nonce])
	}
	for i := range a.Families {
		b = native.AppendUint16(b, arcTagFamily)
		b = appendArchivedFamily(b, &a.Families[i])
		b = appendArchivedExemplars(b, &a.Families[i])
	}
	return native.AppendUint16(b, arcTagEnd)
}

func appendArchivedFamily(b []byte, f *ArchivedFamily) []byte {
	body := appendFamily(nil, &f.Family)
	b = appendUint32(b, uint32(len(body)))
	b = append(b, body...)
	ready := byte(0)
	if f.Ready {
		ready = 1
	}
	b = append(b, ready)
	b = appendUint64(b, f.ReadyAt)
	b = appendUint32(b, uint32(len(f.Series)))
	for i := range f.Series {
		s := &f.Series[i]
		for _, v := range s.Values {
			b = appendString(b, v)
		}
		b = appendUint64(b, uint64(s.Created.UnixNano()))
		b = appendUint64(b, uint64(s.Age))
		b = appendUint32(b, uint32(len(s.Words)))
		for _, w := range s.Words {
			b = appendUint64(b, w)
		}
	}
	return b
}

func decodeArchive(b []byte) (*Archive, error) {
	d := decoder{b: b}
	a := &Archive{AgedAt: d.uint64(), Taken: map[uint64]uint64{}}
	var family archivedPart
	for !d.bad {
		switch tag := d.uint16(); tag {
		case arcTagEnd:
			if d.bad || len(d.b) > 0 {
				return nil, corrupt("it does not end where it should")
			}
			return a, nil
		case arcTagFolded:
			a.Folded = append(a.Folded, d.string())
		case arcTagTaken:
			nonce := d.uint64()
			a.Taken[nonce] = d.uint64()
		case arcTagFamily:
			var err error
			if family, err = decodeArchivedFamily(&d); err != nil {
				return nil, err
			}
			a.LeftOut += family.leftOut
			if family.usable {
				a.Families = append(a.Families, family.ArchivedFamily)
				a.unknown = a.unknown || !family.known
			}
		case arcTagExemplar:
			if err := decodeArchivedExemplar(&d, a, &family); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("%w: it has a part of kind %d, which this program does not know", ErrVersion, tag)
		}
	}
	return nil, corrupt("it ends early")
}

// archivedPart is a family as it lies in an archive. What fails Family.Check or CheckValue is left out, and nothing else for
// it: the archive's checksum is right, so no fold would mend it, and the generation before has lower sums.
type archivedPart struct {
	ArchivedFamily
	known   bool
	usable  bool    // the definition may be exposed
	leftOut int     // series
	places  []int32 // of each series in Series, -1 for one that is left out; nil: as in the file
}

// place returns where series i of the file is in Series, -1 if it is left out.
func (p *archivedPart) place(i uint32) int {
	switch {
	case !p.usable:
		return -1
	case p.places != nil && uint64(i) < uint64(len(p.places)):
		return int(p.places[i])
	case p.places == nil && uint64(i) < uint64(len(p.Series)):
		return int(i)
	default:
		return -1
	}
}

func decodeArchivedFamily(d *decoder) (p archivedPart, err error) {
	body := d.take(uint64(d.uint32()))
	p.Family, p.known, err = decodeFamily(body)
	p.usable = err == nil
	labels := len(p.Labels)
	if !p.usable {
		// The number of labels is enough to find the end of the series.
		head := decoder{b: body}
		head.uint16()
		if labels = int(head.uint16()); head.bad || labels > maxLabels {
			return p, err
		}
	}
	p.Ready = d.uint8() != 0
	p.ReadyAt = d.uint64()
	n := d.uint32()
	for i := range n {
		s, fits := decodeArchivedSeries(d, labels)
		if d.bad {
			return p, corrupt("family %s ends early", p.Name)
		}
		if fits = fits && p.usable; fits {
			p.Series = append(p.Series, s)
		} else {
			p.leftOut++
		}
		p.notePlace(i, fits)
	}
	return p, nil
}

// notePlace remembers where series i of the file is, once one was left out.
func (p *archivedPart) notePlace(i uint32, kept bool) {
	if !p.usable || kept && p.places == nil {
		return
	}
	for len(p.places) < int(i) {
		p.places = append(p.places, int32(len(p.places)))
	}
	place := int32(-1)
	if kept {
		place = int32(len(p.Series) - 1)
	}
	p.places = append(p.places, place)
}

func decodeArchivedSeries(d *decoder, labels int) (s ArchivedSeries, fits bool) {
	fits = true
	if labels > 0 {
		s.Values = make([]string, labels)
	}
	for i := range s.Values {
		s.Values[i] = d.string()
		fits = fits && CheckValue(s.Values[i]) == nil
	}
	s.Created = time.Unix(0, int64(d.uint64()))
	s.Age = time.Duration(d.uint64())
	words := d.take(wordSize * uint64(d.uint32()))
	s.Words = make([]uint64, len(words)/wordSize)
	for i := range s.Words {
		s.Words[i] = native.Uint64(words[i*wordSize:])
	}
	return s, fits
}
