package foreign

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore"
)

// store is the hidden directory: a store of ours with an archive, but with files of the library instead of our own.
type store struct {
	dir  *shmstore.Dir
	view *shmstore.View
	file *os.File
}

func openStore(path string, o shmstore.DirOptions) (*store, error) {
	dir, err := shmstore.OpenDir(filepath.Join(path, storeName), o)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(dir.Path(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("shmstore: %w", &os.PathError{Op: "open", Path: dir.Path(), Err: err})
	}
	return &store{dir: dir, view: dir.View(), file: os.NewFile(uintptr(fd), dir.Path())}, nil
}

func (s *store) close() {
	s.view.Close()
	s.dir.Close()
	s.file.Close()
}

// in reports whether the store is still the hidden directory of that one.
func (s *store) in(dir *os.File) bool {
	var mine, there unix.Stat_t
	return unix.Fstat(int(s.file.Fd()), &mine) == nil &&
		unix.Fstatat(int(dir.Fd()), storeName, &there, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		inodeOf(&mine) == inodeOf(&there)
}

// quarantined returns the files in quarantine that are not in the archive, each with its original name. a is nil when there
// is no archive.
func (s *store) quarantined(a *shmstore.Archive) (map[string]string, error) {
	all, err := names(s.file, isQuarantined)
	if err != nil {
		return nil, err
	}
	archived := map[string]bool{}
	if a != nil {
		for _, name := range a.Folded {
			archived[name] = true
		}
	}
	quarantined := map[string]string{}
	for _, name := range all {
		if original, ok := originalName(name); ok && !archived[name] {
			quarantined[name] = original
		}
	}
	return quarantined, nil
}

const quarantineRandom = 8

// quarantineName returns a new name for a file that goes into quarantine.
func quarantineName(original string) string {
	var b [quarantineRandom]byte
	rand.Read(b[:])
	return shmstore.QuarantinePrefix + hex.EncodeToString(b[:]) + "-" + original
}

func isQuarantined(name []byte, _ uint64) bool {
	_, ok := originalName(string(name))
	return ok
}

// originalName is the inverse of quarantineName.
func originalName(name string) (original string, ok bool) {
	rest, ok := strings.CutPrefix(name, shmstore.QuarantinePrefix)
	if !ok || len(rest) <= 2*quarantineRandom || rest[2*quarantineRandom] != '-' {
		return "", false
	}
	return rest[2*quarantineRandom+1:], true
}

// inUse reports whether a process has the file open or mapped. Who asks holds the lock for that.
func inUse(dir *os.File, name string) (bool, error) {
	file, err := openFile(dir, name)
	if err != nil {
		return false, err
	}
	defer file.Close()
	err = lease(file)
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, errLeased), errors.Is(err, unix.EACCES):
		// What cannot be found out is as if it lived.
		return true, nil
	default:
		return false, fmt.Errorf("lease it: %w", err)
	}
}
