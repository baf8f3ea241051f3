package master

import (
	"os"

	"golang.org/x/sys/unix"
)

// fileIdentity says which file a path led to, and in which state. It changes when the file is replaced and when it is
// overwritten in place.
type fileIdentity struct {
	Device  uint64 `json:"device"`
	Inode   uint64 `json:"inode"`
	Size    int64  `json:"size"`
	Changed int64  `json:"changed"` // the change time (ctime) in nanoseconds, which cannot be set back
}

// identify follows links, as an exec does.
func identify(path string) (fileIdentity, error) {
	var st unix.Stat_t
	for {
		err := unix.Stat(path, &st)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fileIdentity{}, &os.PathError{Op: "stat", Path: path, Err: err}
		}
		break
	}
	return fileIdentity{Device: uint64(st.Dev), Inode: st.Ino, Size: st.Size, Changed: st.Ctim.Nano()}, nil
}

// stands is an error when path does not lead to that file in that state any more.
func (f fileIdentity) stands(path string) error {
	now, err := identify(path)
	if err != nil {
		return err
	}
	if now != f {
		return &changedError{path: path}
	}
	return nil
}

// changedError is that a file is not what it was.
type changedError struct{ path string }

func (e *changedError) Error() string { return e.path + " has changed on disk" }
