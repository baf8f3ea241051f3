package foreign

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/internal/dirent"
)

// Dir is a directory of a library's files. It is safe for concurrent use.
type Dir struct {
	path    string
	lib     *Library
	options Options

	mu   sync.Mutex
	said map[string]bool // metrics that nobody has defined
}

// Options say how a directory is treated. The zero value is right.
type Options struct {
	// Compact takes the files of processes that have died into an archive. Without it nothing in the directory is
	// changed.
	Compact bool
	// Logger is told of metrics that nobody has defined, each once; nil: slog.Default().
	Logger *slog.Logger
}

// Open returns the directory of that path, which need not exist yet. Errors: the path is empty or that of something
// else, or the directory can never be compacted here.
func Open(path string, lib *Library, o Options) (*Dir, error) {
	if path == "" {
		return nil, fmt.Errorf("shmstore: open a directory of %s: the path is empty", lib.Name)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("shmstore: open a directory of %s: %w", lib.Name, err)
	}
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("shmstore: %s is a file: name the directory in which %s keeps its files", path, lib.Name)
	}
	if err := readable(path); err != nil {
		return nil, err
	}
	if o.Compact && !leases {
		return nil, fmt.Errorf("shmstore: %s cannot be compacted: this system has no leases, without which nobody can "+
			"tell that a process is dead", path)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Dir{path: path, lib: lib, options: o, said: map[string]bool{}}, nil
}

// readable returns an error, with what to do, for a directory that is there and that this user may not read.
func readable(path string) error {
	f, err := os.Open(path)
	if err == nil {
		_, err = f.Readdirnames(1)
		f.Close()
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("shmstore: %w: uid %d may not read it: run as the user of the server, or give this one access "+
			"(chmod g+rx with a common group, setfacl)", err, os.Geteuid())
	}
	return nil
}

// Path returns the directory's absolute path.
func (d *Dir) Path() string { return d.path }

// Compacts reports whether the directory is compacted.
func (d *Dir) Compacts() bool { return d.options.Compact }

// storeName is the hidden directory with the archive.
const storeName = ".onescrape"

// say logs that nobody has defined a metric, once.
func (d *Dir) say(name string) {
	d.mu.Lock()
	known := d.said[name]
	d.said[name] = true
	d.mu.Unlock()
	if !known {
		d.options.Logger.Warn("a metric whose type nobody has defined is exposed as untyped, process by process",
			"family", name, "directory", d.path)
	}
}

// openDir opens the directory as it is now.
func (d *Dir) openDir() (*os.File, error) {
	fd, err := unix.Open(d.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("shmstore: %w", &os.PathError{Op: "open", Path: d.path, Err: err})
	}
	return os.NewFile(uintptr(fd), d.path), nil
}

// names returns the names in a directory that are wanted, sorted, each once: see inOrder in package shmstore.
func names(dir *os.File, wanted func(name []byte, inode uint64) bool) ([]string, error) {
	if _, err := dir.Seek(0, 0); err != nil {
		return nil, fmt.Errorf("shmstore: list %s: %w", dir.Name(), err)
	}
	var all []string
	err := dirent.Each(dir, func(name []byte, inode uint64) {
		if wanted(name, inode) {
			all = append(all, string(name))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("shmstore: list %s: %w", dir.Name(), err)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// twins finds, among the files of a directory, those that have two names in there: which of them is right nobody knows. A
// link elsewhere is no reason to leave a file out, because a backup makes one.
type twins struct {
	dir    *os.File
	wanted func(name []byte, inode uint64) bool
	known  map[inode]int // names of each inode; nil before it is asked for
}

// check returns an error for a file that has two of the names.
func (t *twins) check(st *unix.Stat_t) error {
	if st.Nlink < 2 {
		return nil
	}
	if t.known == nil {
		t.known = map[inode]int{}
		all, err := names(t.dir, t.wanted)
		if err != nil {
			return err
		}
		for _, name := range all {
			var other unix.Stat_t
			if unix.Fstatat(int(t.dir.Fd()), name, &other, unix.AT_SYMLINK_NOFOLLOW) == nil {
				t.known[inodeOf(&other)]++
			}
		}
	}
	if n := t.known[inodeOf(st)]; n > 1 {
		return fmt.Errorf("%w: it has %d names in the directory", shmstore.ErrForeign, n)
	}
	return nil
}

// isFile reports whether a name could be that of one of the library's files.
func (l *Library) isFile(name []byte, _ uint64) bool {
	return bytes.HasSuffix(name, []byte(l.Suffix)) && name[0] != '.'
}

// admit looks at a file before it is opened: in a directory that everybody can write to, another user's file may say
// anything. errGone when there is none.
func admit(dir *os.File, owner *unix.Stat_t, name string, st *unix.Stat_t) error {
	err := unix.Fstatat(int(dir.Fd()), name, st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		return errGone
	case err != nil:
		return &os.PathError{Op: "stat", Path: filepath.Join(dir.Name(), name), Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%w: it is no regular file", shmstore.ErrForeign)
	case st.Uid != owner.Uid && int(st.Uid) != os.Geteuid() && owner.Mode&0o002 != 0:
		return fmt.Errorf("%w: it belongs to uid %d, the directory to uid %d, and everybody can write to that: "+
			"give the directory to the server's user with mode 0700 (chown %d, chmod 0700)", shmstore.ErrForeign, st.Uid, owner.Uid,
			st.Uid)
	}
	return nil
}
