package shmstore

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
	"github.com/onescrape/onescrape/shmstore/internal/osfile"
)

// FoldOptions are the options of Fold.
type FoldOptions struct {
	// Merge makes the next archive's Families and ArchivedThrough of the last one, nil when there is none, the files of the dead and
	// the living. All files are refreshed, the dead ones read afresh. What a living process has released counts as released
	// up to Reader.Releases only, which is as of an earlier look than the rest. It returns nil, nil when there is nothing to
	// be written; a store that has no archive then gets an empty one. It changes none of its arguments.
	Merge func(last *Archive, dead, live []*Reader) (*Archive, error)
	// Step, if not nil, is called with the name of each step before it is made. The process may be killed in any of them.
	Step func(step string)
	// Context, if not nil, ends the wait for another process that folds; its error is then returned. A fold that has begun is
	// brought to its end.
	Context context.Context
	// Blocked, if not nil, is called once when another process has kept this one waiting for a second: pid is that process,
	// 0 if it cannot be found out.
	Blocked func(pid int)
	// Look, if not nil, is called with the name of each file before it is looked at. Other files may change then.
	Look func(name string)
}

// foldAtOnce is how many files one fold takes. Each is mapped meanwhile, and a process can map some 65,000 files. It is far
// more than there are: what the dead show and what they have deleted is decided over all of them, so a series of which the
// dead show some and have deleted some may vanish when one fold takes only a part of them.
var foldAtOnce = 1 << 14

// Fold takes the files of processes that have died into the archive and removes them, up to 16,384 at once; folded is how many.
// It works on the view, which is afterwards as after Update, but for dead files beyond those. Several processes may fold
// one store: one waits for the other.
//
// A process may be killed at any step. What has happened by then is either all that went before the rename, which nobody
// sees, or the rename: after that the archive names the files that it holds, so that they count once until they are
// unlinked, by this process or by the next one that folds.
//
// ErrFull: there was no space for the larger archive. ErrVersion: a newer program wrote the archive. Nothing is changed.
func (v *View) Fold(o FoldOptions) (folded int, err error) {
	if o.Step == nil {
		o.Step = func(string) {}
	}
	if o.Look == nil {
		o.Look = func(string) {}
	}
	lock, err := v.dir.lockForFold(o.Context, o.Blocked)
	if err != nil {
		return 0, fmt.Errorf("shmstore: fold: %w", err)
	}
	defer lock.Close()
	v.most = foldAtOnce
	defer func() { v.most = 0 }()
	f := folding{view: v, dir: v.dir, o: o}
	folded, err = f.fold()
	if err != nil {
		return folded, fmt.Errorf("shmstore: fold %s: %w", v.dir.path, err)
	}
	return folded, nil
}

// folding is one fold. It has the lock of the fold.
type folding struct {
	view   *View
	dir    *Dir
	o      FoldOptions
	head   archiveHead // of the last archive
	broken []string
}

func (f *folding) fold() (int, error) {
	f.o.Step("locked")
	f.removeHidden()
	last, err := f.last()
	if err != nil {
		return 0, err
	}
	if err := f.unlink(last); err != nil {
		return 0, err
	}
	dead, live, err := f.look(last)
	if err != nil {
		f.forget(dead)
		return 0, err
	}
	f.quarantineBroken()
	n, err := f.write(last, dead, live)
	if errors.Is(err, ErrFull) && len(dead) > 1 {
		// There may be space for one small file, and the space that it frees may be enough for the next. The other files
		// stay and count as files of living processes, so that nothing of them is forgotten before they are folded. Nothing
		// of them is archived.
		slices.SortFunc(dead, func(a, b *Reader) int { return int(a.seen.used - b.seen.used) })
		for _, r := range dead[1:] {
			r.seen.releases = 0
		}
		n, err = f.write(last, dead[:1], slices.Concat(live, dead[1:]))
	}
	// Before the view opens what is left.
	f.forget(dead)
	if e := f.view.updateLocked(); err == nil {
		err = e
	}
	return n, err
}

// look returns the files of dead and of living processes for a fold. It looks at the living once more, and at files that have
// come meanwhile, if something may be taken of any: deletion.go says why. What is deleted between the two looks is not taken.
func (f *folding) look(last *Archive) (dead, live []*Reader, err error) {
	if err := f.list(); err != nil {
		return nil, nil, err
	}
	dead, live, err = f.sort()
	if err != nil || len(dead) == 0 && !slices.ContainsFunc(live, last.lacks) {
		return dead, live, err
	}
	f.o.Step("look again")
	live, err = f.lookAgain(dead, live)
	return dead, live, err
}

// lacks reports whether the process has released what the archive has not taken.
func (a *Archive) lacks(r *Reader) bool {
	if a == nil {
		return r.seen.releases > 0
	}
	return r.seen.releases > a.ArchivedThrough[r.info.Nonce]
}

// list brings the view to the present, and returns an error if that is not all that there is.
func (f *folding) list() error {
	if err := f.view.updateLocked(); err != nil {
		return err
	}
	return f.complete()
}

// last returns the archive to go on from. A broken one is set aside first, and the one before it taken.
func (f *folding) last() (*Archive, error) {
	a, h, err := f.view.lastArchive()
	f.head = h
	if a != nil && a.unknown {
		return nil, fmt.Errorf("%w: %s has a part that this program does not know", ErrVersion, archiveName)
	}
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrForeign) {
		return a, err
	}
	old, h, e := f.dir.readArchive(reserveName)
	if e != nil {
		old, h = nil, archiveHead{}
	}
	f.head = h
	f.o.Step("set the archive aside")
	if old != nil {
		// The exchange of the names keeps a valid archive under the name at every moment.
		if err := osfile.Exchange(f.dir.fd(), reserveName, archiveName); err != nil {
			return nil, err
		}
		return old, f.quarantine(reserveName, archiveName)
	}
	return nil, f.quarantine(archiveName, archiveName)
}

// unlink removes the files that the archive holds.
func (f *folding) unlink(a *Archive) error {
	if a == nil {
		return nil
	}
	for _, name := range a.Folded {
		if _, _, ok := parseFileName(name); !ok && !strings.HasPrefix(name, QuarantinePrefix) {
			continue
		}
		f.o.Step("unlink " + name)
		if err := unix.Unlinkat(f.dir.fd(), name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unlink %s: %w", name, err)
		}
	}
	return nil
}

// complete is an error when a file cannot be read only because the system lacks something. A series that is deleted
// elsewhere may be shown there, so nothing can be forgotten now.
func (f *folding) complete() error {
	for name, err := range f.view.Broken() {
		if shortage(err) {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// shortage reports whether it is the system that lacks something, no fault of the file, and likely to pass.
func shortage(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// sort separates the files of dead processes from those of living ones. It reads the dead ones again, because what was read
// while they lived may be old.
func (f *folding) sort() (dead, live []*Reader, err error) {
	for _, r := range slices.Clone(f.view.Readers()) {
		f.o.Look(r.info.Name)
		alive, err := r.Alive()
		if err != nil {
			return dead, nil, err
		}
		if !alive {
			r, err = f.view.reopen(r)
		}
		if err == nil {
			err = r.Refresh()
		}
		switch {
		case shortage(err):
			return dead, nil, err
		case errors.Is(err, ErrCorrupt) && !alive && r != nil:
			f.broken = append(f.broken, r.info.Name)
		case err != nil:
		case alive:
			live = append(live, r)
		case r.Known():
			dead = append(dead, r)
		default:
			// It stays where it is, and the fold takes nothing of it. No series that it shows may be forgotten.
			r.seen.releases = 0
			live = append(live, r)
		}
	}
	return dead, live, nil
}

// lookAgain lists the directory and looks at all files but the dead once more. Of what the living have released it leaves
// to the next fold what the first look did not see.
func (f *folding) lookAgain(dead, live []*Reader) (again []*Reader, err error) {
	releases := make(map[*Reader]uint64, len(live))
	for _, r := range live {
		releases[r] = r.seen.releases
	}
	skip := make(map[*Reader]bool, len(dead))
	for _, r := range dead {
		skip[r] = true
	}
	f.view.kept, f.view.dead = f.view.Readers(), len(dead)
	defer func() { f.view.kept, f.view.dead = nil, 0 }()
	if err := f.list(); err != nil {
		return nil, err
	}
	for _, r := range f.view.Readers() {
		if skip[r] {
			continue
		}
		f.o.Look(r.info.Name)
		if err := r.Refresh(); shortage(err) {
			return nil, err
		} else if err == nil {
			r.seen.releases = min(releases[r], r.seen.releases)
			again = append(again, r)
		}
	}
	return again, nil
}

// forget closes files that the view opens afresh if they are still there.
func (f *folding) forget(readers []*Reader) {
	for _, r := range readers {
		f.view.Forget(r)
	}
}

// write makes the next generation of the archive and removes the files that it holds.
func (f *folding) write(last *Archive, dead, live []*Reader) (int, error) {
	f.o.Step("merge")
	next, err := f.o.Merge(last, dead, live)
	if err != nil {
		return 0, err
	}
	var names []string
	for _, r := range dead {
		names = append(names, r.info.Name)
	}
	return f.commit(last, next, names, live)
}

// commit makes next the archive that follows last and holds the files of these names, and removes them; it returns how many
// they are. nil: nothing changes.
func (f *folding) commit(last, next *Archive, names []string, live []*Reader) (int, error) {
	if next == nil {
		if err := f.keepReserve(reserveFor(f.head.end(), live)); err != nil || last != nil {
			return 0, err
		}
		return 0, f.writeFirst()
	}
	next.Generation = 1
	if last != nil {
		next.Generation = last.Generation + 1
	}
	next.Folded = names
	f.forgetGone(next)
	if err := f.replace(last, next, live); err != nil {
		return 0, err
	}
	return len(names), f.unlink(next)
}

// forgetGone removes from an archive what it says of files that have gone without being folded, as one that was abandoned.
func (f *folding) forgetGone(a *Archive) {
	if len(a.ArchivedThrough) == 0 {
		return
	}
	names, err := f.dir.Names()
	if err != nil {
		return
	}
	there := map[uint64]bool{}
	for _, name := range names {
		if _, nonce, ok := parseFileName(name); ok {
			there[nonce] = true
		}
	}
	maps.DeleteFunc(a.ArchivedThrough, func(nonce, _ uint64) bool { return !there[nonce] })
}

// minReserve is the space that is always kept for the next archive.
const minReserve = 64 << 10

// replace writes the archive into the reserve, which has its space already, and exchanges the two.
func (f *folding) replace(last, a *Archive, live []*Reader) error {
	e, err := f.dir.encodeArchive(last, a)
	if err != nil {
		return err
	}
	if err := f.keepReserve(e.size()); err != nil {
		return err
	}
	fd, err := unix.Openat(f.dir.fd(), reserveName, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", reserveName, err)
	}
	file := os.NewFile(uintptr(fd), reserveName)
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", reserveName, err)
	}
	if err := f.writeReserve(file, e); err != nil {
		return err
	}
	f.o.Step("sync")
	if err := osfile.SyncFile(fd); err != nil {
		return fmt.Errorf("sync %s: %w", reserveName, err)
	}
	f.o.Step("rename")
	if a.Generation == 1 {
		err = osfile.RenameNew(f.dir.fd(), reserveName, archiveName)
	} else {
		err = osfile.Exchange(f.dir.fd(), reserveName, archiveName)
	}
	if err != nil {
		return fmt.Errorf("rename %s: %w", reserveName, err)
	}
	f.view.replaced(last, f.head, a, e.headOf(st.Ino))
	f.o.Step("renamed")
	// If there is no space for a larger reserve now, there may be at the next fold.
	_ = f.keepReserve(reserveFor(e.size(), live))
	return nil
}

// writeReserve writes an archive's file. The head goes first and comes last: what lies between is no archive. The part with
// the families is not written where it already is.
func (f *folding) writeReserve(file *os.File, e *encodedArchive) error {
	image := e.image.b
	if f.reserveHolds(file, e.image) {
		image = image[len(image):]
	}
	begin := int64(arcBody + len(e.image.b) - len(image))
	half := len(image) / 2
	for _, part := range []struct {
		step   string
		b      []byte
		offset int64
	}{
		{"clear the reserve's head", make([]byte, arcHead), 0},
		{"write half of the reserve", image[:half], begin},
		{"write the rest of the reserve", image[half:], begin + int64(half)},
		{"write what follows the families", e.rest, int64(arcBody + len(e.image.b))},
		{"write the reserve's head", e.head, 0},
	} {
		f.o.Step(part.step)
		if _, err := file.WriteAt(part.b, part.offset); err != nil {
			return fmt.Errorf("write %s: %w", reserveName, errFull(err))
		}
	}
	return nil
}

// reserveHolds reports whether the reserve is an archive that the view has written or read, with these families.
func (f *folding) reserveHolds(file *os.File, i *image) bool {
	known := &f.view.reserve
	if known.image != i || known.head == (archiveHead{}) {
		return false
	}
	h, err := f.dir.readArchiveHead(file)
	return err == nil && h == known.head
}

// writeFirst makes an empty archive beside the reserve, before there is anything to fold. An archive keeps the space in
// which it was written, and by the time that the first one has to be there may be none for another reserve.
func (f *folding) writeFirst() error {
	e, err := f.dir.encodeArchive(nil, &Archive{Generation: 1, AgedAt: osfile.Monotonic()})
	if err != nil {
		return err
	}
	f.o.Step("make an empty archive")
	file, err := f.dir.unnamed(0o600)
	if err != nil {
		return ifNotFull(err)
	}
	defer file.discard()
	if err := osfile.Allocate(file.fd, 0, minReserve); err != nil {
		return ifNotFull(err)
	}
	if _, err := unix.Pwrite(file.fd, slices.Concat(e.head, make([]byte, arcBody-arcHead), e.image.b, e.rest), 0); err != nil {
		return fmt.Errorf("write %s: %w", archiveName, err)
	}
	if err := osfile.SyncFile(file.fd); err != nil {
		return fmt.Errorf("sync %s: %w", archiveName, err)
	}
	return ifNotFull(file.publish(archiveName))
}

// ifNotFull is err unless there is no space: then the reserve is all that there is, and the next fold tries again.
func ifNotFull(err error) error {
	if errors.Is(errFull(err), ErrFull) {
		return nil
	}
	return err
}

// reserveFor returns how much space the next archive may need: what the last one had, and as much as the largest file of
// the living, which is more than it takes in an archive. Only then can a full file system be freed by folding.
func reserveFor(archive int64, live []*Reader) int64 {
	var largest int64
	for _, r := range live {
		largest = max(largest, r.seen.used)
	}
	return archive + max(archive, largest)
}

// keepReserve makes sure that the reserve is there and has n bytes of its own.
func (f *folding) keepReserve(n int64) error {
	n = encoding.Align(max(n, minReserve), pageSize)
	for {
		fd, err := unix.Openat(f.dir.fd(), reserveName, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			f.o.Step("make a reserve")
			file, err := f.dir.unnamed(0o600)
			if err != nil {
				return err
			}
			err = osfile.Allocate(file.fd, 0, n)
			if err == nil {
				err = file.publish(reserveName)
			}
			file.discard()
			return errFull(err)
		}
		var st unix.Stat_t
		if err == nil {
			defer unix.Close(fd)
			if err := unix.Fstat(fd, &st); err != nil {
				return fmt.Errorf("stat %s: %w", reserveName, err)
			}
		}
		switch {
		case err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink == 1:
		case err == nil, errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO), errors.Is(err, unix.EISDIR),
			errors.Is(err, unix.EACCES):
			// Something else has the name, or another name has the file, as a copy that was made by linking: neither is to
			// be written to.
			if err := f.quarantine(reserveName, reserveName); err != nil {
				return err
			}
			continue
		default:
			return fmt.Errorf("open %s: %w", reserveName, err)
		}
		if st.Size < n {
			f.o.Step("enlarge the reserve")
			if err := osfile.Allocate(fd, st.Size, n); err != nil {
				return fmt.Errorf("enlarge %s to %d bytes: %w", reserveName, n, errFull(err))
			}
		}
		return nil
	}
}

// encodedArchive is the content of an archive's file.
type encodedArchive struct {
	head  []byte
	image *image
	rest  []byte // of the payload, and the table behind it

	known archiveHead // what head says
}

// size returns how long the file is at least.
func (e *encodedArchive) size() int64 { return int64(arcBody + len(e.image.b) + len(e.rest)) }

// headOf returns the head of the archive as it is read from the file with that inode.
func (e *encodedArchive) headOf(inode uint64) archiveHead {
	h := e.known
	h.inode = inode
	return h
}

// encodeArchive returns the content of the file of the archive that follows last. Families that are the very ones of last are
// not encoded again; of the others the Packed parts are copied, and are parts of the image afterwards.
func (d *Dir) encodeArchive(last, a *Archive) (*encodedArchive, error) {
	boot, err := osfile.BootID()
	if err != nil {
		return nil, err
	}
	e := &encodedArchive{head: make([]byte, arcHead)}
	if last != nil && last.image.holds(a) {
		a.image = last.image
	} else {
		b := appendFamilies(make([]byte, 0, sizeOf(a.Families)), a.AgedAt, a.Families)
		a.image = &image{b: b, sum: encoding.Checksum(b), since: a.Generation, families: a.Families, agedAt: a.AgedAt}
	}
	e.image = a.image
	e.rest = appendRest(nil, a)
	length := int64(len(e.image.b) + len(e.rest))
	sum := crc32.Update(e.image.sum, encoding.Castagnoli, e.rest)
	if length > maxArchive {
		return nil, fmt.Errorf("%w: an archive of %d bytes", ErrFull, length)
	}
	a.ThisBoot, a.checksum = true, sum
	e.known = archiveHead{generation: a.Generation, length: length, checksum: sum, thisBoot: true}
	end := e.known.end()
	e.rest = append(e.rest, make([]byte, tableAt(end)-end)...)
	e.rest = appendTable(e.rest, a, sum)
	b := e.head
	copy(b, archiveMagic)
	encoding.Native.PutUint32(b[arcVersion:], version)
	encoding.Native.PutUint32(b[arcOrder:], orderMark)
	copy(b[arcStore:], d.id[:])
	copy(b[arcBoot:], boot[:])
	encoding.Native.PutUint64(b[arcGen:], a.Generation)
	encoding.Native.PutUint64(b[arcLength:], uint64(length))
	encoding.Native.PutUint32(b[arcPayload:], sum)
	encoding.Native.PutUint32(b[arcChecksum:], encoding.Checksum(b[:arcChecksum]))
	return e, nil
}

// A few unreadable files are kept, so that somebody can find out why. A file is moved only after a while, because a newer
// program may still be able to read one that was just made.
const (
	brokenPrefix = ".broken-"
	keepBroken   = 8
	brokenAfter  = 10 * time.Minute
	hiddenAfter  = time.Minute
)

// quarantineBroken renames broken files of dead processes, so that readers no longer see them.
func (f *folding) quarantineBroken() {
	for name, err := range f.view.Broken() {
		if errors.Is(err, ErrCorrupt) && strings.HasSuffix(name, fileSuffix) {
			f.broken = append(f.broken, name)
		}
	}
	for _, name := range f.broken {
		var st unix.Stat_t
		if unix.Fstatat(f.dir.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		if time.Since(time.Unix(0, st.Mtim.Nano())) > brokenAfter && !f.inUse(name) {
			f.quarantine(name, name)
		}
	}
}

// quarantine renames a file to one that is kept for inspection. When there are too many, it removes the oldest.
func (f *folding) quarantine(name, as string) error {
	to := fmt.Sprintf("%s%d-%s", brokenPrefix, time.Now().UnixNano(), as)
	if err := osfile.RenameNew(f.dir.fd(), name, to); err != nil {
		return fmt.Errorf("set %s aside: %w", name, err)
	}
	names := f.withPrefix(brokenPrefix)
	slices.Sort(names)
	for len(names) > keepBroken {
		unix.Unlinkat(f.dir.fd(), names[0], 0)
		names = names[1:]
	}
	return nil
}

// removeHidden removes files that were never given their name, because the process that made them died.
func (f *folding) removeHidden() {
	for _, name := range f.withPrefix(hiddenPrefix) {
		var st unix.Stat_t
		if unix.Fstatat(f.dir.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil &&
			time.Since(time.Unix(0, st.Mtim.Nano())) > hiddenAfter && !f.inUse(name) {
			unix.Unlinkat(f.dir.fd(), name, 0)
		}
	}
}

// inUse reports whether a process has the file for its own; true when that cannot be told.
func (f *folding) inUse(name string) bool {
	file, err := f.dir.openAt(name, unix.O_RDONLY)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer file.Close()
	held, err := osfile.IsLocked(int(file.Fd()), 0)
	return held || err != nil
}

func (f *folding) withPrefix(prefix string) []string {
	dir, err := f.dir.openAt(".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, prefix) })
}
