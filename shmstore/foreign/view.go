package foreign

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/internal/junk"
)

// View is a directory as one reader sees it: the archive, and the files that count beside it, at one instant. It keeps
// what it has read between updates. It is for one goroutine at a time.
type View struct {
	dir     *Dir
	file    *os.File // the directory, as of the last Update; nil when there is none
	store   *store   // the hidden directory; nil when there is none
	damaged bool     // there is one, which cannot be opened
	readers map[string]*Reader
	shown   []*Reader
	junk    junk.Memory

	bounds   map[string][]float64 // of each histogram, of the whole directory
	archive  *shmstore.Archive    // whose bounds they have
	reshaped bool                 // bounds may have to change
}

// View returns a view that holds nothing yet.
func (d *Dir) View() *View { return &View{dir: d, readers: map[string]*Reader{}} }

// Archive returns the archive as of the last Update, nil when there is none. It is another pointer exactly when it is
// another archive.
func (v *View) Archive() *shmstore.Archive {
	if v.store == nil {
		return nil
	}
	return v.store.view.Archive()
}

// Readers returns the files that count beside the archive as of the last Update, by name. A Reader stays the same as
// long as its file is in the view; Update closes those that have left it.
func (v *View) Readers() []*Reader { return v.shown }

// Broken returns what was wrong, at the last Update, with files that are left out, by path.
// The map is the view's.
func (v *View) Broken() map[string]error { return v.junk.Broken() }

// BrokenVersion returns another number whenever Broken is not what it was.
func (v *View) BrokenVersion() uint64 { return v.junk.Version() }

// leaveOut remembers a file that cannot be read. Inode 0: it is not known.
func (v *View) leaveOut(path string, inode uint64, err error) {
	kind := error(nil)
	for _, k := range [...]error{shmstore.ErrCorrupt, shmstore.ErrForeign, shmstore.ErrVersion} {
		if errors.Is(err, k) {
			kind = k
		}
	}
	v.junk.Add(path, inode, err, kind)
}

// tries is how often a view looks again at a directory in which files come and go.
const tries = 100

// Update brings the view to the present: it looks which files there are, reads what is new in them, and finds out which
// processes live. An error means that the directory cannot be read. A directory that does not exist is no error, and empties
// the view, because a server that has gone is no longer exposed, but Broken says so.
//
// A file may be renamed into the hidden directory at any moment and then into the archive. So the view looks at the
// archive, at the directory, at the hidden directory, opens what is new, and looks at the archive again, and does all
// that once more if a file that was listed was gone or another archive was there.
func (v *View) Update() error {
	for range tries {
		if ok, err := v.look(); ok || err != nil {
			return err
		}
	}
	return fmt.Errorf("shmstore: %s changes faster than it can be read", v.dir.path)
}

func (v *View) look() (ok bool, err error) {
	v.junk.Begin()
	file, err := v.dir.openDir()
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			v.clear()
			v.leaveOut(v.dir.path, 0, fmt.Errorf("there is no such directory; it is read when its server has made it: %w", err))
			v.junk.End()
			return true, nil
		}
		return false, err
	}
	if v.file != nil {
		v.file.Close()
	}
	v.file = file
	if err := v.findStore(); err != nil {
		return false, err
	}
	shown, ok, err := v.list()
	if !ok || err != nil {
		return false, err
	}
	if v.store == nil {
		// Somebody may have begun to compact.
		if !v.damaged && v.storeCame() {
			return false, nil
		}
	} else if !v.store.view.Current() {
		return false, nil
	}
	v.keep(shown)
	v.junk.End()
	return true, nil
}

func (v *View) storePath() string { return filepath.Join(v.dir.path, storeName) }

// clear forgets everything.
func (v *View) clear() {
	v.keep(nil)
	if v.store != nil {
		v.store.close()
		v.store = nil
	}
	if v.file != nil {
		v.file.Close()
		v.file = nil
	}
}

// findStore opens the hidden directory if there is one.
func (v *View) findStore() error {
	v.damaged = false
	if v.store != nil && !v.store.in(v.file) {
		v.store.close()
		v.store = nil
	}
	if v.store == nil {
		s, err := openStore(v.dir.path, shmstore.DirOptions{})
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			// What was archived is missing, but not what goes on.
			v.damaged = true
			v.leaveOut(v.storePath(), 0, err)
			return nil
		}
		v.store = s
	}
	if err := v.store.view.Update(); err != nil {
		return err
	}
	for name, err := range v.store.view.Broken() {
		v.leaveOut(filepath.Join(v.storePath(), name), 0, err)
	}
	return nil
}

// storeCame reports whether there is a hidden directory into which a file may have been renamed. One that a compactor has
// made and not yet made a store of, because it was killed or the file system is full, has none.
func (v *View) storeCame() bool {
	if unix.Faccessat(int(v.file.Fd()), storeName, unix.F_OK, 0) != nil {
		return false
	}
	s, err := openStore(v.dir.path, shmstore.DirOptions{})
	if err == nil {
		s.close()
	}
	return !errors.Is(err, fs.ErrNotExist)
}

// list opens the files that count beside the archive. ok is false when one was gone meanwhile.
func (v *View) list() (shown []*Reader, ok bool, err error) {
	var owner unix.Stat_t
	if err := unix.Fstat(int(v.file.Fd()), &owner); err != nil {
		return nil, false, fmt.Errorf("shmstore: stat %s: %w", v.dir.path, err)
	}
	l := lister{v: v, owner: &owner, keys: newKeys(v.dir.lib), processes: newProcesses(), seen: map[inode]bool{}}
	all, err := names(v.file, l.wanted(v.file))
	if err != nil {
		return nil, false, err
	}
	l.twins = &twins{dir: v.file, wanted: v.dir.lib.isFile}
	for _, name := range all {
		if !l.take(v.file, name, name) {
			return nil, false, l.err
		}
	}
	if v.store == nil {
		return l.shown, true, nil
	}
	quarantined, err := v.store.quarantined(v.store.view.Archive())
	if err != nil {
		return nil, false, err
	}
	l.twins = &twins{dir: v.store.file, wanted: isQuarantined}
	for name, original := range quarantined {
		if !l.take(v.store.file, name, original) {
			return nil, false, l.err
		}
	}
	return l.shown, true, nil
}

// lister is one look at the files.
type lister struct {
	v         *View
	owner     *unix.Stat_t
	keys      *keys
	processes *processes
	seen      map[inode]bool
	inode     uint64 // of the file that is looked at; 0: not known
	twins     *twins // of the directory that is looked at
	shown     []*Reader
	unprobed  error // LockProbe's: it is not waited for again
	err       error
}

// wanted returns what says of the files in a directory whether to open them.
func (l *lister) wanted(dir *os.File) func(name []byte, inode uint64) bool {
	path := append([]byte(dir.Name()), filepath.Separator)
	return func(name []byte, inode uint64) bool {
		return l.v.dir.lib.isFile(name, inode) && !l.v.junk.Skip(append(path, name...), inode)
	}
}

// take brings the Reader of one file up to date. It returns false when the directory must be listed again, or cannot be
// listed.
func (l *lister) take(dir *os.File, name, original string) bool {
	v := l.v
	path := filepath.Join(dir.Name(), name)
	r, err := l.open(dir, name, original, path)
	switch {
	case errors.Is(err, errGone):
		return false
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM):
		l.err = fmt.Errorf("shmstore: %w", err)
		return false
	case err != nil:
		v.leaveOut(path, l.inode, fmt.Errorf("shmstore: read %s: %w", path, err))
		v.drop(path)
	case r != nil:
		l.shown = append(l.shown, r)
	}
	return true
}

// open returns nil, nil for a file that the look has under another name already.
func (l *lister) open(dir *os.File, name, original, path string) (*Reader, error) {
	v := l.v
	var st unix.Stat_t
	err := admit(dir, l.owner, name, &st)
	if l.inode = st.Ino; err != nil {
		return nil, err
	}
	if err := l.twins.check(&st); err != nil {
		return nil, err
	}
	if l.seen[inodeOf(&st)] {
		// It was renamed after it was listed, and its Reader is the one of the name before.
		return nil, nil
	}
	r := v.readers[path]
	if r != nil && (r.inode != inodeOf(&st) || st.Size < r.size) {
		v.drop(path)
		r = nil
	}
	if r == nil {
		kind, ok := v.dir.lib.file(original)
		if !ok {
			return nil, fmt.Errorf("%w: its name is none that %s gives", shmstore.ErrForeign, v.dir.lib.Name)
		}
		r = newReader(v.dir.lib, kind, dir, name, &st)
	}
	r.dir = dir
	before := r.used
	err = l.fetch(r, &st)
	if errors.Is(err, errReplaced) {
		v.drop(path)
		r, before = newReader(v.dir.lib, r.kind, dir, name, &st), 0
		err = l.fetch(r, &st)
	}
	if err != nil {
		if v.readers[path] != r {
			r.close()
		}
		// What is known of another counts until take says that it is broken.
		return nil, err
	}
	v.readers[path] = r
	v.junk.Remove(path)
	l.seen[r.inode] = true
	if r.used != before {
		v.reshaped = true
		v.announce(r)
	}
	return r, nil
}

// fetch reads what is new in a file, and finds out whether its process lives. In a directory that is compacted a file stays
// mapped only as long as its process seems to live, because otherwise the compacting process would never get a lease.
// Gauges of living processes need better evidence.
func (l *lister) fetch(r *Reader, st *unix.Stat_t) (err error) {
	s := l.v.store
	switch {
	case s == nil:
		r.alive = true
	case !r.kind.Live:
		r.alive = l.processes.mayHave(&r.kind, st)
	default:
		// Two that look at once would each be the process that the other sees.
		if l.unprobed != nil {
			return l.unprobed
		}
		lock, err := s.dir.LockProbe()
		if err != nil {
			l.unprobed = err
			return err
		}
		defer lock.Close()
		if err := r.keepCopy(); err != nil {
			return err
		}
		if r.alive, err = inUse(r.dir, r.name); err != nil {
			return err
		}
		return r.fetch(st, false, l.keys)
	}
	return r.fetch(st, r.alive, l.keys)
}

// announce says which metrics nobody has defined.
func (v *View) announce(r *Reader) {
	for def := range r.layout.numbers {
		if def.Type == shmstore.UntypedType {
			v.dir.say(def.Name)
		}
	}
}

func (v *View) drop(path string) {
	if r := v.readers[path]; r != nil {
		r.close()
		delete(v.readers, path)
		v.reshaped = true
	}
}

// keep makes the readers those that are shown, and gives their histograms the bounds that they have together.
func (v *View) keep(shown []*Reader) {
	slices.SortFunc(shown, func(a, b *Reader) int { return strings.Compare(a.info.Name, b.info.Name) })
	kept := make(map[string]bool, len(shown))
	for _, r := range shown {
		kept[r.info.Name] = true
	}
	for path := range v.readers {
		if !kept[path] {
			v.drop(path)
		}
	}
	v.shown = shown
	if v.reshaped || v.archive != v.Archive() {
		v.shape(v.Archive())
	}
}

// Forget closes a Reader of the view, whose file the next Update opens afresh.
func (v *View) Forget(r *Reader) {
	if v.readers[r.info.Name] == r {
		v.drop(r.info.Name)
		v.shown = slices.DeleteFunc(v.shown, func(o *Reader) bool { return o == r })
	}
}

// LetGo unmaps the files of processes that may have died, so that the view keeps nobody from a lease until the next
// Update.
func (v *View) LetGo() {
	p := newProcesses()
	for _, r := range v.readers {
		if !r.mapped {
			continue
		}
		var st unix.Stat_t
		err := unix.Fstatat(int(r.dir.Fd()), r.name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil || !p.mayHave(&r.kind, &st) {
			// If that fails, Read says so.
			_ = r.keepCopy()
		}
	}
}

// Current reports whether the archive is still the one of the last Update.
func (v *View) Current() bool { return v.store == nil || v.store.view.Current() }

// Close closes everything.
func (v *View) Close() error {
	v.clear()
	return nil
}

// shape finds the bounds that the histograms of the directory have together, those that are archived too: a bound that
// one process knows and another does not is one that the library would expose.
func (v *View) shape(a *shmstore.Archive) {
	v.reshaped, v.archive = false, a
	v.bounds = map[string][]float64{}
	if a != nil {
		for i := range a.Families {
			v.merge(a.Families[i].Name, a.Families[i].Bounds)
		}
	}
	v.shown = slices.DeleteFunc(v.shown, func(r *Reader) bool {
		if v.leftOut(r, v.fits(r)) {
			return true
		}
		for name, bounds := range r.layout.mentioned {
			if v.dir.lib.Bounds != nil {
				v.merge(name, v.dir.lib.Bounds(name))
			}
			v.merge(name, bounds)
		}
		return false
	})
	v.shown = slices.DeleteFunc(v.shown, func(r *Reader) bool { return v.leftOut(r, r.layout.shape(v.bounds, r.used)) })
}

// leftOut closes a file that err makes unusable, and does nothing when err is nil.
func (v *View) leftOut(r *Reader, err error) bool {
	if err == nil {
		return false
	}
	v.leaveOut(r.info.Name, r.inode.number, r.wrap(err))
	r.close()
	delete(v.readers, r.info.Name)
	return true
}

// fits is an error when the bounds that a file mentions are too many together with the others.
func (v *View) fits(r *Reader) error {
	for name, bounds := range r.layout.mentioned {
		if n := len(v.bounds[name]) + len(bounds); n > MaxBounds && len(union(v.bounds[name], bounds)) > MaxBounds {
			return tooManyBounds(name)
		}
	}
	return nil
}

func (v *View) merge(name string, bounds []float64) {
	if len(bounds) > 0 {
		v.bounds[name] = union(v.bounds[name], bounds)
	}
}

func union(a, b []float64) []float64 {
	if slices.Equal(a, b) {
		return a
	}
	a = slices.Clone(a)
	for _, bound := range b {
		a = insertBound(a, bound)
	}
	return a
}
