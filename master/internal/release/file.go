package release

import (
	"os"

	"golang.org/x/sys/unix"
)

// File says which file a path led to, and in which state. It changes when the file is replaced and when it is
// overwritten in place.
type File struct {
	Device  uint64 `json:"device"`
	Inode   uint64 `json:"inode"`
	Size    int64  `json:"size"`
	Changed int64  `json:"changed"` // the change time (ctime) in nanoseconds, which cannot be set back
}

// Identify returns what the path leads to. It follows links, as an exec does.
func Identify(path string) (File, error) {
	var st unix.Stat_t
	for {
		err := unix.Stat(path, &st)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return File{}, &os.PathError{Op: "stat", Path: path, Err: err}
		}
		break
	}
	return File{Device: uint64(st.Dev), Inode: st.Ino, Size: st.Size, Changed: st.Ctim.Nano()}, nil
}

// ChangedError means that a file is not what it was.
type ChangedError struct{ Path string }

// Error implements error.
func (e *ChangedError) Error() string { return e.Path + " has changed on disk" }
