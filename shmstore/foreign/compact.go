package foreign

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore"
)

// CompactOptions are the options of Compact.
type CompactOptions struct {
	// Merge makes the next archive's Families of the last one, nil when there is none, and the files of the dead.
	// living returns readers of all others, for who has to know which series are in use. It returns nil when nothing is
	// to be written, and changes none of its arguments.
	Merge func(last *shmstore.Archive, dead []*Reader, living func() ([]*Reader, error)) (*shmstore.Archive, error)
	// Settle is how long a file stays in quarantine before it is read and removed. 0: 2 s.
	Settle time.Duration
	// Context and Blocked are those of shmstore.FoldOptions.
	Context context.Context
	Blocked func(pid int)
	// Step, if not nil, is called with the name of each step before it is made. The process may be killed in any of them.
	Step func(step string)
}

// settle is more than it takes to get from finding a file to having it open, which is no system call apart.
const settle = 2 * time.Second

// compactAtOnce is how many files one call archives, and how many it moves into quarantine.
const compactAtOnce = 256

// Compact takes files of dead processes into the archive and removes them, as the package's documentation says, up to
// 256 at once; taken is how many. Several processes may compact one directory; they take turns. A directory that does
// not exist has nothing to compact.
//
// Errors: the files are another user's and this process lacks CAP_LEASE, or the file system has no leases or its locks
// may not reach every process (shmstore.ErrUnsafeDir): then the directory is not compacted. shmstore.ErrFull and
// shmstore.ErrVersion are of the archive.
func (d *Dir) Compact(o CompactOptions) (taken int, err error) {
	if o.Step == nil {
		o.Step = func(string) {}
	}
	if o.Settle == 0 {
		o.Settle = settle
	}
	file, err := d.openDir()
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	c := compactor{dir: d, file: file, o: o}
	if s, err := openStore(d.path, shmstore.DirOptions{}); errors.Is(err, os.ErrNotExist) {
		// The hidden directory comes when it is needed, so that one that is only looked at stays as it is.
		if dead, err := c.anyDead(); !dead || err != nil {
			return 0, err
		}
	} else if err == nil {
		s.close()
	}
	if c.store, err = openStore(d.path, shmstore.DirOptions{Create: true}); err != nil {
		return 0, fmt.Errorf("%s cannot be compacted: %w", d.path, err)
	}
	defer c.store.close()
	taken, err = c.compact(compactAtOnce)
	if errors.Is(err, shmstore.ErrFull) {
		// One small file may still find its place, and what it frees makes place for the next.
		taken, err = c.compact(1)
	}
	return taken, err
}

// compactor is one Compact.
type compactor struct {
	dir   *Dir
	file  *os.File
	store *store
	last  *shmstore.Archive
	o     CompactOptions
	owner unix.Stat_t
}

func (c *compactor) compact(most int) (int, error) {
	return c.store.view.Rewrite(shmstore.RewriteOptions{
		Step: c.o.Step, Context: c.o.Context, Blocked: c.o.Blocked,
		Next: func(last *shmstore.Archive) (*shmstore.Archive, []string, error) {
			c.last = last
			names, dead, err := c.settled(most)
			if err != nil {
				return nil, nil, err
			}
			if err := c.quarantine(); err != nil {
				return nil, nil, err
			}
			next, err := c.o.Merge(last, dead, c.living)
			return next, names, err
		},
	})
}

// anyDead reports whether there is a file of a process that seems to have gone.
func (c *compactor) anyDead() (bool, error) {
	found := false
	err := c.candidates(func(string, *unix.Stat_t) (bool, error) {
		found = true
		return false, nil
	})
	return found, err
}

// candidates calls do with each file whose process seems to have gone, until it says false.
func (c *compactor) candidates(do func(name string, st *unix.Stat_t) (bool, error)) error {
	if err := unix.Fstat(int(c.file.Fd()), &c.owner); err != nil {
		return fmt.Errorf("stat %s: %w", c.dir.path, err)
	}
	all, err := names(c.file, c.dir.lib.isFile)
	if err != nil {
		return err
	}
	p := newProcesses()
	twins := &twins{dir: c.file, wanted: c.dir.lib.isFile}
	for _, name := range all {
		kind, ok := c.dir.lib.file(name)
		var st unix.Stat_t
		if !ok || admit(c.file, &c.owner, name, &st) != nil || twins.check(&st) != nil || p.mayHave(&kind, &st) {
			continue
		}
		if goOn, err := do(name, &st); !goOn || err != nil {
			return err
		}
	}
	return nil
}

// quarantine renames files of dead processes into the hidden directory. A file that cannot be read stays where it is,
// because it could not be archived from there either.
func (c *compactor) quarantine() error {
	n := 0
	k := newKeys(c.dir.lib)
	return c.candidates(func(name string, st *unix.Stat_t) (bool, error) {
		// Readers look for leases too, and would take this for the process.
		lock, err := c.store.dir.LockProbe()
		if err != nil {
			return false, err
		}
		defer lock.Close()
		r, err := c.read(c.file, name, name, st, k)
		if err != nil {
			return true, nil
		}
		free, err := c.free(c.file, name, r.inode)
		if !free || err != nil {
			return err == nil, err
		}
		to := quarantineName(name)
		c.o.Step("set aside " + name)
		err = unix.Renameat(int(c.file.Fd()), name, int(c.store.file.Fd()), to)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENAMETOOLONG):
			// Somebody else has removed it, or it stays, because it has no place for a longer name.
			return true, nil
		case err != nil:
			return false, fmt.Errorf("%s cannot be compacted: rename %s: %w", c.dir.path, name, err)
		}
		n++
		return n < compactAtOnce, nil
	})
}

// free reports whether nobody has the file of that name, which must be that one, open or mapped.
func (c *compactor) free(dir *os.File, name string, id inode) (bool, error) {
	file, err := openFile(dir, name)
	if err != nil {
		return false, nil
	}
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil || inodeOf(&st) != id {
		return false, nil
	}
	err = lease(file)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, errLeased):
		return false, nil
	case errors.Is(err, unix.EACCES):
		return false, fmt.Errorf("%s cannot be compacted: %s belongs to uid %d, and without CAP_LEASE only its owner can "+
			"find out who uses it; run as that user: %w", c.dir.path, name, st.Uid, err)
	default:
		return false, fmt.Errorf("%s cannot be compacted: its file system has no leases, without which nobody can tell "+
			"that a process is dead (%s): %w", c.dir.path, name, err)
	}
}

// settled returns the files that have been in quarantine long enough and that nobody has open.
func (c *compactor) settled(most int) (names []string, dead []*Reader, err error) {
	quarantined, err := c.store.quarantined(c.last)
	if err != nil {
		return nil, nil, err
	}
	k := newKeys(c.dir.lib)
	for name, original := range quarantined {
		if len(dead) == most {
			break
		}
		var st unix.Stat_t
		if unix.Fstatat(int(c.store.file.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue
		}
		if time.Since(time.Unix(0, st.Ctim.Nano())).Abs() < c.o.Settle {
			continue
		}
		r, err := c.readFree(name, original, &st, k)
		if err != nil {
			return nil, nil, err
		}
		if r != nil {
			dead = append(dead, r)
		}
	}
	dead = c.shape(dead)
	// One that is left out stays.
	for _, r := range dead {
		names = append(names, r.name)
	}
	return names, dead, nil
}

// readFree reads a file in quarantine. It returns nil when a process has the file open, or when it cannot be read.
func (c *compactor) readFree(name, original string, st *unix.Stat_t, k *keys) (*Reader, error) {
	lock, err := c.store.dir.LockProbe()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	free, err := c.free(c.store.file, name, inodeOf(st))
	if !free || err != nil {
		return nil, err
	}
	// Only now: what it holds is final.
	r, err := c.read(c.store.file, name, original, st, k)
	if err != nil {
		return nil, nil
	}
	r.alive = false
	return r, nil
}

// living returns readers of all files that are not taken.
func (c *compactor) living() ([]*Reader, error) {
	all, err := names(c.file, c.dir.lib.isFile)
	if err != nil {
		return nil, err
	}
	quarantined, err := c.store.quarantined(c.last)
	if err != nil {
		return nil, err
	}
	lock, err := c.store.dir.LockProbe()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	k := newKeys(c.dir.lib)
	var living []*Reader
	add := func(dir *os.File, name, original string) {
		var st unix.Stat_t
		if admit(dir, &c.owner, name, &st) != nil {
			return
		}
		if r, err := c.read(dir, name, original, &st, k); err == nil {
			living = append(living, r)
		}
	}
	for _, name := range all {
		add(c.file, name, name)
	}
	for name, original := range quarantined {
		add(c.store.file, name, original)
	}
	return c.shape(living), nil
}

// read reads a file whole, into memory that need not be given back.
func (c *compactor) read(dir *os.File, name, original string, st *unix.Stat_t, k *keys) (*Reader, error) {
	kind, ok := c.dir.lib.file(original)
	if !ok {
		return nil, fmt.Errorf("%w: %s", shmstore.ErrForeign, filepath.Join(dir.Name(), name))
	}
	r := newReader(c.dir.lib, kind, dir, name, st)
	if err := r.fetch(st, false, k); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// shape gives histograms the bounds that the files and the archive have together, so that releases which differ become
// one definition. It returns the files without those that do not fit, which a View leaves out too: one that nobody can
// read keeps no other from being taken.
func (c *compactor) shape(readers []*Reader) []*Reader {
	v := View{dir: c.dir, shown: readers, readers: map[string]*Reader{}}
	v.junk.Begin()
	v.shape(c.last)
	return v.shown
}
