package sdnotify

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// newName returns a name in a directory of this user's alone.
func newName() (string, error) {
	dir, err := os.MkdirTemp("", "onescrape-notify-")
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "s"), nil
}

func forgetName(name string) { os.RemoveAll(filepath.Dir(name)) }

func wantSender(int) error { return nil }

// receiveFrom takes one datagram without waiting; this system does not say who sent it. Without room for descriptors it
// passes none on.
func receiveFrom(fd int) (datagram, error) {
	buf := make([]byte, 8192)
	n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
	if err != nil {
		return datagram{}, err
	}
	return datagram{text: string(buf[:n]), pid: unknownSender}, nil
}

func refuseDescriptors(int) error { return unix.ENOTSUP }
