package shmstore

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
)

// The file "lock" is a store's identity: its random id, which every file of the store bears, the pid of its master and
// that master's status. It comes with the store and is never renamed or removed.
const identityName = "lock"

const (
	idMagic    = "onescrid"
	idFormat   = 1 // counts by itself: a store outlives formats of the files in it
	idVersion  = 8
	idOrder    = 12
	idStore    = 16 // 16 bytes
	idChecksum = 32
	idSize     = 40 // what never changes

	idPID      = 40
	idSelector = 48 // the status that counts is number selector mod 2
	idStatus   = 4096
	statusSize = 64 << 10 // of each of the two: length, checksum, text
	statusHead = 8
)

// readIdentity returns the id of the store; fs.ErrNotExist when the directory is none.
func (d *Dir) readIdentity() (id [16]byte, err error) {
	b := make([]byte, idSize)
	f, err := d.openAt(identityName, unix.O_RDONLY)
	if err != nil {
		return id, err
	}
	defer f.Close()
	if n, _ := f.ReadAt(b, 0); n < idSize {
		return id, corrupt("%s is %d bytes long", identityName, n)
	}
	if string(b[:8]) != idMagic {
		return id, corrupt("%s does not begin with %q", identityName, idMagic)
	}
	if o := encoding.Native.Uint32(b[idOrder:]); o != orderMark {
		return id, fmt.Errorf("%w: %s was written in another byte order", ErrVersion, identityName)
	}
	if v := encoding.Native.Uint32(b[idVersion:]); v != idFormat {
		return id, fmt.Errorf("%w: %s has version %d, this program knows %d: run the onescrape that made the store, or name "+
			"another path", ErrVersion, identityName, v, idFormat)
	}
	if encoding.Native.Uint32(b[idChecksum:]) != encoding.Checksum(b[:idChecksum]) {
		return id, corrupt("the checksum of %s is wrong", identityName)
	}
	return [16]byte(b[idStore:]), nil
}

// makeIdentity gives the directory an identity unless it has one. Two processes may do so at once; one of them wins.
func (d *Dir) makeIdentity() error {
	b := make([]byte, 0, idSize)
	b = append(b, idMagic...)
	b = encoding.AppendUint32(b, idFormat)
	b = encoding.AppendUint32(b, orderMark)
	var id [16]byte
	rand.Read(id[:])
	b = append(b, id[:]...)
	b = encoding.AppendUint32(b, encoding.Checksum(b))
	b = append(b, make([]byte, idSize-len(b))...)
	f, err := d.unnamed(0o600)
	if err != nil {
		return err
	}
	defer f.discard()
	if _, err := unix.Pwrite(f.fd, b, 0); err != nil {
		return errFull(err)
	}
	if err := f.publish(identityName); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// writeMaster makes this process and text what Master returns.
func (d *Dir) writeMaster(text []byte) error {
	if len(text) > statusSize-statusHead {
		return fmt.Errorf("shmstore: a status of %d bytes is too long", len(text))
	}
	f, err := d.openAt(identityName, unix.O_RDWR)
	if err != nil {
		return fmt.Errorf("shmstore: write the status of %s: %w", d.path, err)
	}
	defer f.Close()
	head := make([]byte, 16)
	f.ReadAt(head, idPID)
	selector := encoding.Native.Uint64(head[8:]) + 1
	body := encoding.AppendUint32(nil, uint32(len(text)))
	body = encoding.AppendUint32(body, encoding.Checksum(text))
	if _, err := f.WriteAt(append(body, text...), idStatus+int64(selector%2)*statusSize); err != nil {
		return fmt.Errorf("shmstore: write the status of %s: %w", d.path, errFull(err))
	}
	encoding.Native.PutUint64(head, uint64(os.Getpid()))
	encoding.Native.PutUint64(head[8:], selector)
	if _, err := f.WriteAt(head, idPID); err != nil {
		return fmt.Errorf("shmstore: write the status of %s: %w", d.path, errFull(err))
	}
	return nil
}

// writePID makes this process what Master returns, beside the text that is there. The page that has the pid exists already,
// so that most file systems need no space for it.
func (d *Dir) writePID() error {
	f, err := d.openAt(identityName, unix.O_RDWR)
	if err == nil {
		defer f.Close()
		pid := make([]byte, idSelector-idPID)
		encoding.Native.PutUint64(pid, uint64(os.Getpid()))
		_, err = f.WriteAt(pid, idPID)
	}
	if err != nil {
		return fmt.Errorf("shmstore: write the master of %s: %w", d.path, errFull(err))
	}
	return nil
}

// Master returns the pid of the process that holds the master's lock, 0 when nobody does, and the status that it, or the
// last one that held it, has set.
func (d *Dir) Master() (pid int, status []byte, err error) {
	f, err := d.openAt(identityName, unix.O_RDONLY)
	if err != nil {
		return 0, nil, fmt.Errorf("shmstore: read the master of %s: %w", d.path, err)
	}
	defer f.Close()
	held, err := d.locked(lockMaster)
	if err != nil {
		return 0, nil, fmt.Errorf("shmstore: read the master of %s: %w", d.path, err)
	}
	head, again, text := make([]byte, 16), make([]byte, 16), make([]byte, statusSize)
	for range 100 {
		f.ReadAt(head, idPID)
		n, _ := f.ReadAt(text, idStatus+int64(encoding.Native.Uint64(head[8:])%2)*statusSize)
		f.ReadAt(again, idPID)
		if !bytes.Equal(head, again) {
			continue
		}
		if held {
			pid = int(encoding.Native.Uint64(head))
		}
		if n < statusHead {
			return pid, nil, nil
		}
		length := int(encoding.Native.Uint32(text))
		if length <= n-statusHead && encoding.Checksum(text[statusHead:statusHead+length]) == encoding.Native.Uint32(text[4:]) {
			return pid, text[statusHead : statusHead+length], nil
		}
	}
	return pid, nil, fmt.Errorf("shmstore: the status of %s is %w", d.path, ErrCorrupt)
}
