package shmstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore/internal/junk"
)

// View is a store as one reader sees it: the archive and the files that count beside it, at one instant. It keeps what it
// has read between updates. It is for one goroutine at a time.
type View struct {
	dir          *Dir
	head         archiveHead
	archive      *Archive
	folded       map[string]bool // names that the archive holds, which are many after a crowd of deaths
	damage       error           // of the archive that head is of
	damaged      [2]stamp        // of the archive and the reserve when damage was found, zero when they may have changed since
	reserve      knownReserve
	readers      map[string]*Reader // all that are open, by name
	shown        []*Reader
	junk         junk.Memory
	sharedValues sharedValues
	pool         *pool          // nil before the first ReadNew: who does not call it has no use for any
	most         int            // dead files that are in the view at most, without a descriptor; 0: all, with one
	kept         []*Reader      // files, sorted by name, that stay whatever most says
	dead         int            // of kept, how many are dead
	keeps        bool           // KeepDeleted
	closing      sync.WaitGroup // of files that have left the view
}

// View returns a view that holds nothing yet.
func (d *Dir) View() *View { return &View{dir: d, readers: map[string]*Reader{}} }

// Archive returns the archive as of the last Update, nil when there is none. It is another pointer exactly when it is
// another archive, which a new generation is, and so is one that took the place of a broken one of the same number.
func (v *View) Archive() *Archive { return v.archive }

// Readers returns the files that count beside the archive as of the last Update, by name. A Reader stays the same as long
// as its file is in the view; Update closes those that have left it, and what they have returned is over then.
func (v *View) Readers() []*Reader { return v.shown }

// Broken returns what was wrong, at the last Update, with files that are left out, by name.
// The map is the view's.
func (v *View) Broken() map[string]error { return v.junk.Broken() }

// BrokenVersion returns another number whenever Broken is not what it was.
func (v *View) BrokenVersion() uint64 { return v.junk.Version() }

// leaveOut remembers a file that cannot be read.
func (v *View) leaveOut(name string, inode uint64, err error) {
	kind := error(nil)
	for _, k := range [...]error{ErrCorrupt, ErrForeign, ErrVersion} {
		if errors.Is(err, k) {
			kind = k
		}
	}
	v.junk.Add(name, inode, err, kind)
}

// tries is how often a view looks again at a directory that is being folded. Then it takes the lock of the fold.
const tries = 3

// Update brings the view to the present. The files are not refreshed. An error means that the directory cannot be read;
// a broken file is none.
//
// The archive may take a file over at any moment, and then the file goes. So the view looks at the archive, at the
// directory, opens what is new, and looks at the archive again: if it is the same, then the files in the listing less those
// that it names are exactly what counts beside it, whatever happens to them from now on.
//
// A directory that changes all the time is looked at under the lock of the fold. But nobody waits for that alone: its holder
// may have been stopped, and then the directory does not change.
func (v *View) Update() error {
	if ok, err := v.try(tries); ok || err != nil {
		return err
	}
	return v.updateBusy()
}

// updateBusy is Update of a directory that changed at each look.
func (v *View) updateBusy() error {
	ctx, cancel := context.WithTimeout(context.Background(), updateWait)
	defer cancel()
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		lock, err := v.dir.lock(lockFold)
		switch {
		case err == nil:
			defer lock.Close()
			return v.updateLocked()
		case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
			// A view that may only read cannot take the lock of the fold, but a store is folded once a second at most.
			return v.updateLocked()
		case !errors.Is(err, ErrInUse):
			return err
		}
		select {
		case <-ctx.Done():
			return v.updateLocked()
		case <-time.After(pause):
		}
		if ok, err := v.look(); ok || err != nil {
			return err
		}
	}
}

// updateWait is how long Update asks for the lock of the fold.
const updateWait = 10 * time.Second

// updateLocked is Update while no other process folds.
func (v *View) updateLocked() error {
	ok, err := v.try(100)
	if err == nil && !ok {
		err = fmt.Errorf("shmstore: %s changes faster than it can be read", v.dir.path)
	}
	return err
}

// try looks at the directory until two looks agree, n times at most.
func (v *View) try(n int) (ok bool, err error) {
	for range n {
		if ok, err = v.look(); ok || err != nil {
			break
		}
	}
	return ok, err
}

func (v *View) look() (ok bool, err error) {
	v.closing.Wait() // there are only so many descriptors
	v.junk.Begin()
	if ok, err := v.readArchive(); !ok {
		return false, err
	}
	if v.damage != nil {
		v.leaveOut(archiveName, 0, v.damage)
	}
	entries, err := v.dir.list(v.junk.Skip)
	if err != nil {
		return false, err
	}
	shown := make([]*Reader, 0, len(entries))
	dead := v.dead
	for _, e := range entries {
		name := e.name
		if v.folded[name] {
			continue
		}
		r := v.readers[name]
		if r == nil {
			r, err = v.dir.Open(name)
			if errors.Is(err, fs.ErrNotExist) {
				return false, nil
			}
			if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
				// Whoever can fold, and anything else in this process, needs descriptors too.
				v.closeBut(v.shown)
				v.closing.Wait()
				return false, err
			}
			if err != nil {
				v.leaveOut(name, e.inode, err)
				continue
			}
			v.junk.Remove(name)
			r.reuse.values, r.reuse.pool, r.deleted.keeps = &v.sharedValues, v.pool, v.keeps
			v.readers[name] = r
		}
		if v.most > 0 && !among(v.kept, r) {
			if alive, err := r.Alive(); err == nil && !alive {
				if dead++; dead > v.most {
					// It must not be mapped together with all the others. What is shown stays until the look is over.
					if !slices.Contains(v.shown, r) {
						r.Close()
						delete(v.readers, name)
					}
					continue
				}
				r.closeFile()
			}
		}
		shown = append(shown, r)
	}
	if !v.Current() {
		return false, nil
	}
	slices.SortFunc(shown, func(a, b *Reader) int { return strings.Compare(a.info.Name, b.info.Name) })
	v.shown = shown
	v.junk.End()
	v.closeBut(shown)
	return true, nil
}

// ReadNew refreshes the files that never were, as many at once as there are processors: a rollout has many of them. What
// is wrong with one its own Refresh says.
func (v *View) ReadNew() {
	if v.pool == nil {
		v.pool = &pool{}
	}
	defer v.pool.drop()
	var fresh []*Reader
	for _, r := range v.shown {
		if r.reuse.values != nil {
			fresh = append(fresh, r)
		}
	}
	if v.sharedValues.reader == nil && len(fresh) > 0 {
		fresh[0].Refresh()
		fresh = fresh[1:]
	}
	if len(fresh) < 2 {
		return
	}
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(len(fresh), runtime.GOMAXPROCS(0)) {
		all.Go(func() {
			for i := next.Add(1); i <= int64(len(fresh)); i = next.Add(1) {
				r := fresh[i-1]
				r.reuse.values = &sharedValues{v.sharedValues.reader} // which nobody refreshes meanwhile
				r.Refresh()
			}
		})
	}
	all.Wait()
	for _, r := range fresh {
		if r.reuse.values == nil {
			v.sharedValues.reader = r
		} else {
			r.reuse.values = &v.sharedValues
		}
	}
}

// closeBut closes the files that are not among these, which are sorted by name. With the last descriptor of a file that was
// removed its memory goes, which takes nearly as long as to read it; so that is done meanwhile.
func (v *View) closeBut(readers []*Reader) {
	var gone []*Reader
	for name, r := range v.readers {
		if !among(readers, r) {
			if r != v.sharedValues.reader {
				v.pool.give(r)
			}
			gone = append(gone, r)
			delete(v.readers, name)
		}
	}
	if len(gone) == 0 {
		return
	}
	v.closing.Go(func() {
		for _, r := range gone {
			r.Close()
		}
	})
}

// knownReserve is what a view that folds knows of the reserve: an archive that it has read or written.
type knownReserve struct {
	head  archiveHead
	image *image
}

// among reports whether r, by its name, is one of readers, which are sorted by name.
func among(readers []*Reader, r *Reader) bool {
	_, found := slices.BinarySearchFunc(readers, r.info.Name, func(r *Reader, name string) int {
		return strings.Compare(r.info.Name, name)
	})
	return found
}

// readArchive reads the file that has the archive's name now. ok is false when that file was replaced meanwhile. Instead of
// a broken archive it takes the generation before; neither is read again before one of them changes. An error comes from
// the system and means that the content of the archive is unknown.
func (v *View) readArchive() (ok bool, err error) {
	now, settled := v.stamps()
	if v.damage != nil && settled && now == v.damaged {
		return true, nil
	}
	head, err := v.dir.archiveHead(archiveName)
	if err == nil && v.damage == nil && head == v.head {
		return true, nil
	}
	var a *Archive
	if err == nil {
		a, head, err = v.fetchArchive()
	}
	switch {
	case errors.Is(err, errMoved):
		return false, nil
	case err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrForeign):
		return false, err
	}
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrForeign) {
		if old, _, e := v.dir.readArchive(reserveName); e == nil {
			a = old
		}
	}
	v.take(a, head, err)
	if v.damaged = [2]stamp{}; err != nil && settled {
		v.damaged = now
	}
	return true, nil
}

// stamps returns the states of the archive's file and of the reserve, and whether any later change would give other ones.
func (v *View) stamps() (s [2]stamp, settled bool) {
	s = [2]stamp{v.dir.stamp(archiveName), v.dir.stamp(reserveName)}
	return s, s[0].settled() && s[1].settled()
}

// fetchArchive reads the archive, but not its families where it has the same ones as the archive of the view.
func (v *View) fetchArchive() (*Archive, archiveHead, error) {
	if a, h := v.dir.readRest(archiveName, v.archive); a != nil {
		return a, h, nil
	}
	return v.dir.readArchive(archiveName)
}

// lastArchive returns the archive that has the name now, with the errors of Dir.readArchive; without reading it, if it is that
// of the view.
func (v *View) lastArchive() (*Archive, archiveHead, error) {
	if v.archive != nil && v.damage == nil {
		if h, err := v.dir.archiveHead(archiveName); err == nil && h == v.head {
			return v.archive, h, nil
		}
	}
	a, h, err := v.fetchArchive()
	if err == nil {
		v.take(a, h, nil)
		a = v.archive
	}
	return a, h, err
}

// take makes a the view's archive.
func (v *View) take(a *Archive, head archiveHead, damage error) {
	if a != nil && v.archive != nil && a.Generation == v.archive.Generation && a.checksum == v.archive.checksum {
		a = v.archive
	}
	if a != v.archive {
		v.archive, v.folded = a, a.names()
	}
	v.head, v.damage = head, damage
}

// replaced makes next, which this process has written in the place of last, the view's archive. The file of last is the
// reserve now; what it holds is worth remembering only if the archive after next may hold it too.
func (v *View) replaced(last *Archive, lastHead archiveHead, next *Archive, head archiveHead) {
	v.reserve = knownReserve{}
	if last != nil && last.image == next.image {
		v.reserve = knownReserve{lastHead, last.image}
	}
	v.take(next, head, nil)
}

// Current reports whether the archive is still the one of the last Update. Who has read cells of a file whose layout changed
// since then has to ask: the file's writer reuses what an archive has taken, so its file and an older archive do not fit.
func (v *View) Current() bool {
	head, err := v.dir.archiveHead(archiveName)
	return head == v.head && (err == nil || v.damage != nil)
}

// Forget closes a Reader of the view, whose file the next Update opens afresh.
func (v *View) Forget(r *Reader) {
	if v.readers[r.info.Name] == r {
		r.Close()
		delete(v.readers, r.info.Name)
		v.shown = slices.DeleteFunc(v.shown, func(o *Reader) bool { return o == r })
	}
}

// reopen reads the file of a dead process afresh: the Reader that it returns takes the place of r in the view, and r is
// closed. It has no descriptor.
func (v *View) reopen(r *Reader) (*Reader, error) {
	at := slices.Index(v.shown, r)
	v.Forget(r)
	fresh, err := v.dir.Open(r.info.Name)
	if err != nil {
		return nil, err
	}
	fresh.closeFile()
	fresh.reuse.values = &v.sharedValues // dead processes are many, and have much the same label values
	v.readers[r.info.Name] = fresh
	v.shown = slices.Insert(v.shown, at, fresh)
	return fresh, nil
}

// Close closes all files.
func (v *View) Close() error {
	var errs []error
	for _, r := range v.readers {
		errs = append(errs, r.Close())
	}
	v.readers, v.shown = map[string]*Reader{}, nil
	v.closing.Wait()
	return errors.Join(errs...)
}
