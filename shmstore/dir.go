package shmstore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"crypto/rand"
	"encoding/hex"

	"github.com/onescrape/onescrape/shmstore/internal/dirent"
	"github.com/onescrape/onescrape/shmstore/internal/osfile"
)

// Dir is the directory of a store. It is safe for concurrent use.
type Dir struct {
	path string
	id   [16]byte
	file *os.File

	warnings []string
	closing  sync.Once
}

// DirOptions say how OpenDir treats a directory.
type DirOptions struct {
	// Create makes the directory, but not its parents, and its identity where they are missing. Without it a missing
	// directory and one that is no store are errors.
	Create bool
}

// DefaultPath returns the default path of the store of a service of this user. It is in /dev/shm. Where /dev/shm cannot be
// written to or is not in memory, it is in the directory for temporary files, and warning says so.
func DefaultPath(service string) (path, warning string) {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '_'
	}, service)
	name := fmt.Sprintf("onescrape-%d-%s", os.Geteuid(), clean)
	if osfile.MemoryFS("/dev/shm") && unix.Access("/dev/shm", unix.W_OK) == nil {
		return filepath.Join("/dev/shm", name), ""
	}
	tmp := os.TempDir()
	if osfile.MemoryFS(tmp) {
		return filepath.Join(tmp, name), ""
	}
	return filepath.Join(tmp, name), fmt.Sprintf("the store is on a disk (%s): increments wait for its writeback now and then; "+
		"mount a tmpfs and name it by ONESCRAPE_DIR", tmp)
}

// OpenDir opens a store. It returns ErrUnsafeDir for a directory that others can change, that is a symbolic link, that
// belongs to another user, or that is on a network file system. Each error says how to mend it.
func OpenDir(path string, o DirOptions) (*Dir, error) {
	if path == "" {
		return nil, errors.New("shmstore: open a store: the path is empty")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("shmstore: open a store: %w", err)
	}
	if o.Create {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			if _, above := os.Stat(filepath.Dir(path)); errors.Is(above, fs.ErrNotExist) {
				return nil, fmt.Errorf("shmstore: make %s: its parent does not exist; make it first: mkdir -p %s", path,
					filepath.Dir(path))
			}
			return nil, fmt.Errorf("shmstore: make a store: %w", errFull(err))
		}
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, openDirError(path, err)
	}
	d := &Dir{path: path, file: os.NewFile(uintptr(fd), path)}
	if err := d.check(o); err != nil {
		d.Close()
		return nil, err
	}
	d.id, err = d.readIdentity()
	if errors.Is(err, fs.ErrNotExist) {
		if !o.Create {
			d.Close()
			return nil, fmt.Errorf("shmstore: %s is no store of onescrape: it has no file %q; start its writers "+
				"first, or name another path: %w", path, identityName, fs.ErrNotExist)
		}
		if err = d.makeIdentity(); err == nil {
			d.id, err = d.readIdentity()
		}
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("shmstore: open %s: %w", path, err)
	}
	return d, nil
}

// openDirError says what path is instead of a directory.
func openDirError(path string, err error) error {
	if info, e := os.Lstat(path); e == nil {
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := filepath.EvalSymlinks(path)
			return fmt.Errorf("shmstore: %s is an %w: it is a symbolic link; name what it points to (%s)", path, ErrUnsafeDir, target)
		case !info.IsDir():
			return fmt.Errorf("shmstore: %s is a file; a store is a directory of its own: name another path", path)
		}
	} else if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("shmstore: there is no store at %s: start its writers first, or name another path: %w", path,
			fs.ErrNotExist)
	}
	return fmt.Errorf("shmstore: open a store: %w", &fs.PathError{Op: "open", Path: path, Err: err})
}

// check looks at the directory that is open, so that nobody can exchange it in between.
func (d *Dir) check(o DirOptions) error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd(), &st); err != nil {
		return fmt.Errorf("shmstore: stat %s: %w", d.path, err)
	}
	unsafe := func(format string, args ...any) error {
		return fmt.Errorf("shmstore: %s is an %w: %s", d.path, ErrUnsafeDir, fmt.Sprintf(format, args...))
	}
	if int(st.Uid) != os.Geteuid() {
		if shared(&st) {
			return unsafe("all users share it (mode %#o); %s", unixMode(&st), ownDirectory(d.path))
		}
		return unsafe("it belongs to uid %d and this process is uid %d; run as its owner, or name a path where no other user can "+
			"make a directory first, such as --store.path /run/%s", st.Uid, os.Geteuid(), serviceIn(d.path))
	}
	if shared(&st) {
		return unsafe("all users share it (mode %#o); %s", unixMode(&st), ownDirectory(d.path))
	}
	if st.Mode&0o022 != 0 {
		return unsafe("its mode is %#o and others can write to it; run chmod 0700 %s", st.Mode&0o7777, d.path)
	}
	if o.Create && st.Mode&0o700 != 0o700 {
		return fmt.Errorf("shmstore: %s cannot be written: its mode is %#o; run chmod 0700 %s", d.path, st.Mode&0o7777, d.path)
	}
	name, local, known, err := osfile.FileSystem(d.fd())
	switch {
	case err != nil:
		return fmt.Errorf("shmstore: statfs %s: %w", d.path, err)
	case known && !local:
		return unsafe("it lies on a network file system (%s), whose locks may not reach every process; name a path on a local one", name)
	case !known:
		d.warnings = append(d.warnings, fmt.Sprintf("the file system of %s (%s) is not one that onescrape was tested on", d.path, name))
	}
	return nil
}

// shared reports whether a directory is one for all users, such as /tmp, whose mode must stay as it is.
func shared(st *unix.Stat_t) bool { return st.Mode&unix.S_ISVTX != 0 && st.Mode&0o022 != 0 }

// unixMode returns the permissions of a file as chmod takes them.
func unixMode(st *unix.Stat_t) uint32 { return uint32(st.Mode) & 0o7777 }

// ownDirectory says how to give a store a directory of its own inside one that all users share.
func ownDirectory(path string) string {
	return fmt.Sprintf("give the store a directory of its own, for example %s", filepath.Join(path, "NAME"))
}

// serviceIn returns the service that a default path names, NAME for any other path.
func serviceIn(path string) string {
	parts := strings.SplitN(filepath.Base(path), "-", 3)
	if len(parts) == 3 && parts[0] == "onescrape" {
		return parts[2]
	}
	return "NAME"
}

// Path returns the directory's absolute path.
func (d *Dir) Path() string { return d.path }

// Stands returns an error when Path no longer names this directory, because somebody renamed, removed or replaced it.
// Processes that have it open go on with it; processes that open the path get another directory.
func (d *Dir) Stands() error {
	var open, named unix.Stat_t
	if err := unix.Fstat(d.fd(), &open); err != nil {
		return fmt.Errorf("shmstore: stat %s: %w", d.path, err)
	}
	if err := unix.Lstat(d.path, &named); err != nil {
		return fmt.Errorf("shmstore: the store was renamed or removed: %w", &fs.PathError{Op: "stat", Path: d.path, Err: err})
	}
	if open.Dev != named.Dev || open.Ino != named.Ino {
		return fmt.Errorf("shmstore: the store was replaced: %s is another directory than the one that is open", d.path)
	}
	return nil
}

// Warnings returns what is wrong with the directory but no reason to refuse it.
func (d *Dir) Warnings() []string { return d.warnings }

// Close closes the directory. Writers, Readers and Locks that came from it go on; nothing else may be called.
func (d *Dir) Close() (err error) {
	d.closing.Do(func() { err = d.file.Close() })
	return err
}

// Free returns how many bytes the file system of the store has left for this user.
func (d *Dir) Free() (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(d.fd(), &st); err != nil {
		return 0, fmt.Errorf("shmstore: statfs %s: %w", d.path, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

func (d *Dir) fd() int { return int(d.file.Fd()) }

// openAt opens a file of the directory, never through a link, never waiting for the other end of a FIFO.
func (d *Dir) openAt(name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(d.fd(), name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(d.path, name), Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Names returns the names of the per-process files that are visible now, sorted.
func (d *Dir) Names() ([]string, error) {
	entries, err := d.list(func([]byte, uint64) bool { return false })
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.name
	}
	return names, nil
}

// entry is what a directory says of a file.
type entry struct {
	name  string
	inode uint64
}

// list returns the per-process files that are visible now, by name, without those that skip says true of.
func (d *Dir) list(skip func(name []byte, inode uint64) bool) ([]entry, error) {
	f, err := d.openAt(".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("shmstore: list the store: %w", err)
	}
	defer f.Close()
	var listed []entry
	err = dirent.Each(f, func(name []byte, inode uint64) {
		if isFileName(name) && !skip(name, inode) {
			listed = append(listed, entry{string(name), inode})
		}
	})
	if err != nil {
		return nil, fmt.Errorf("shmstore: list %s: %w", d.path, err)
	}
	return inOrder(listed), nil
}

// isFileName reports whether a name could be that of a per-process file.
func isFileName(name []byte) bool {
	return bytes.HasSuffix(name, []byte(fileSuffix)) && name[0] != '.'
}

// inOrder sorts the names that a directory has listed. Linux lists what is in memory anew from the entry on that it had got to,
// when that is renamed meanwhile, as an archive is: then files come twice.
func inOrder(listed []entry) []entry {
	slices.SortFunc(listed, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return slices.CompactFunc(listed, func(a, b entry) bool { return a.name == b.name })
}

// errFull makes ErrFull of what the system says when there is no space.
func errFull(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// Where a file cannot be made without a name it gets one that readers pass over, until it is complete.
const hiddenPrefix = ".new-"

// newFile is a file that nobody else sees yet. publish gives it its name and fails with EEXIST when that is taken; discard
// gives it up.
type newFile struct {
	fd      int
	publish func(name string) error
	discard func()
}

// unnamed makes a file that has no name in the directory yet, or, where the file system has no such files, one that is hidden.
func (d *Dir) unnamed(mode uint32) (*newFile, error) {
	fd, link, err := osfile.Unnamed(d.fd(), mode)
	if errors.Is(err, osfile.ErrNoUnnamed) {
		return d.hidden(mode)
	}
	if err != nil {
		return nil, fmt.Errorf("make a file in %s: %w", d.path, errFull(err))
	}
	publish := func(name string) error {
		if err := link(name); err != nil {
			return fmt.Errorf("name %s: %w", filepath.Join(d.path, name), errFull(err))
		}
		return nil
	}
	return &newFile{fd: fd, publish: publish, discard: func() { unix.Close(fd) }}, nil
}

func (d *Dir) hidden(mode uint32) (*newFile, error) {
	var random [8]byte
	rand.Read(random[:])
	temporary := hiddenPrefix + hex.EncodeToString(random[:])
	fd, err := unix.Openat(d.fd(), temporary, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, fmt.Errorf("make a file in %s: %w", d.path, errFull(err))
	}
	publish := func(name string) error {
		err := osfile.RenameNew(d.fd(), temporary, name)
		if err != nil {
			return fmt.Errorf("name %s: %w", filepath.Join(d.path, name), errFull(err))
		}
		return nil
	}
	discard := func() {
		unix.Unlinkat(d.fd(), temporary, 0)
		unix.Close(fd)
	}
	return &newFile{fd: fd, publish: publish, discard: discard}, nil
}

// Monotonic returns the time in nanoseconds on a clock that never goes back. All processes of one boot share it to within a
// microsecond, also those in different time namespaces.
func Monotonic() uint64 { return osfile.Monotonic() }
