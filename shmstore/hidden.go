package shmstore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Where a file cannot be made without a name it gets one that readers pass over, until it is complete.
const hiddenPrefix = ".new-"

// newFile is a file that nobody else sees yet. publish gives it its name and fails with EEXIST when that is taken; discard
// gives it up.
type newFile struct {
	fd      int
	publish func(name string) error
	discard func()
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
		err := d.renameNew(temporary, name)
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

// writeZeros reserves space where the system has no call for it.
func writeZeros(fd int, offset, end int64) error {
	zeros := make([]byte, 64<<10)
	for offset < end {
		n, err := unix.Pwrite(fd, zeros[:min(int64(len(zeros)), end-offset)], offset)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		offset += int64(n)
	}
	return nil
}
