package release

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// safeLink returns an error when this process is root and others can write to the directory that a link is in.
func safeLink(dir, link string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	const others = 0o022
	if st.Uid == 0 && st.Mode&others == 0 {
		return nil
	}
	return fmt.Errorf("%s is a link in a directory that others than root can write to (uid %d, mode %#o), and what it leads "+
		"to would run as root: run the master as another user, or chown root %s && chmod go-w %s", link, st.Uid,
		st.Mode&0o7777, dir, dir)
}
