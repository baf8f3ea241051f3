package shmstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore/internal/osfile"
)

// Locks of a store. Where the system has open-file-description locks on ranges, each is a byte of the file "lock";
// elsewhere each is a file of its own. These files are never renamed or removed, so all processes mean the same lock.
const (
	lockMaster = 0
	lockFold   = 1
	lockProbe  = 2    // of who asks for a lease, see package foreign
	lockSlot   = 4096 // and up
)

// Lock is a lock that is held until Close, or until the last process ends that has its file open.
type Lock struct {
	file *os.File
	dir  *Dir
}

// File returns the open file that holds the lock, to be inherited by a process that goes on holding it. The file stays
// open.
func (l *Lock) File() *os.File { return l.file }

// Close gives the lock up.
func (l *Lock) Close() error { return l.file.Close() }

// LockMaster takes the lock of the one process that supervises the store's workers. ErrInUse names the process that has
// it. ErrFull: there is no space for its pid. A status for which there is no space yet is no error.
func (d *Dir) LockMaster() (*Lock, error) {
	l, err := d.lock(lockMaster)
	if err != nil {
		if errors.Is(err, ErrInUse) {
			pid, _, _ := d.Master()
			return nil, fmt.Errorf("shmstore: %s is %w: process %d is its master; stop it, or name another "+
				"service (--service NAME) or another store (--store.path DIR)", d.path, ErrInUse, pid)
		}
		return nil, err
	}
	err = d.writeMaster(nil)
	if errors.Is(err, ErrFull) {
		err = d.writePID()
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// AdoptMaster returns the lock that the open file f holds, which came from File in the process that was the master
// before this one.
func (d *Dir) AdoptMaster(f *os.File) (*Lock, error) {
	var mine, theirs unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &theirs); err != nil {
		return nil, fmt.Errorf("shmstore: adopt the lock of %s: %w", d.path, err)
	}
	name := osfile.LockName(identityName, lockMaster)
	if err := unix.Fstatat(d.fd(), name, &mine, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, fmt.Errorf("shmstore: adopt the lock of %s: %w", d.path, err)
	}
	if mine.Ino != theirs.Ino || mine.Dev != theirs.Dev {
		return nil, fmt.Errorf("shmstore: adopt the lock of %s: %w", d.path, ErrForeign)
	}
	return &Lock{file: f, dir: d}, nil
}

// SetStatus replaces the text that Dir.Master returns; at most 64 KiB. Readers see the old one or the new one whole.
func (l *Lock) SetStatus(text []byte) error { return l.dir.writeMaster(text) }

// ClaimSlot claims the lowest free slot number, for a process that has no master. The process has the number as long as it
// holds the lock.
func (d *Dir) ClaimSlot() (int, *Lock, error) {
	for n := range 4096 {
		l, err := d.lock(lockSlot + n)
		if err == nil {
			return n, l, nil
		}
		if !errors.Is(err, ErrInUse) {
			return 0, nil, err
		}
	}
	return 0, nil, fmt.Errorf("shmstore: %s: every slot is %w", d.path, ErrInUse)
}

// probeWait is how long LockProbe waits for what others hold for some microseconds.
const probeWait = time.Second

// LockProbe takes the lock that a process needs to ask the kernel for leases on files in the store. It waits for a second
// at most; ErrInUse then names the process that holds the lock.
func (d *Dir) LockProbe() (*Lock, error) {
	ctx, cancel := context.WithTimeout(context.Background(), probeWait)
	defer cancel()
	l, err := d.waitLock(ctx, lockProbe, nil)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("shmstore: lock %s: %w by process %d", d.path, ErrInUse, d.holder(lockProbe))
	}
	return l, err
}

// Pauses between two attempts to take a lock.
const (
	firstPause = 100 * time.Microsecond
	maxPause   = 20 * time.Millisecond
)

// blockedAfter is how long a lock is waited for before that is reported. Who holds one is done with it much sooner.
const blockedAfter = time.Second

// waitLock takes lock number n, and asks for it again and again until it is free or ctx ends. blocked, if not nil, is called
// once, when that takes long, with the pid of the process that holds the lock, 0 if that cannot be found out.
func (d *Dir) waitLock(ctx context.Context, n int, blocked func(pid int)) (*Lock, error) {
	begun, pause := time.Now(), firstPause
	for {
		l, err := d.lock(n)
		if !errors.Is(err, ErrInUse) {
			return l, err
		}
		if blocked != nil && time.Since(begun) >= blockedAfter {
			blocked(d.holder(n))
			blocked = nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("shmstore: lock %s: %w", d.path, ctx.Err())
		case <-time.After(pause):
			pause = min(2*pause, maxPause)
		}
	}
}

// lockForFold waits for the lock of the fold.
func (d *Dir) lockForFold(ctx context.Context, blocked func(pid int)) (*Lock, error) {
	if ctx == nil {
		ctx = context.Background()
	}
	return d.waitLock(ctx, lockFold, blocked)
}

// holder returns the pid of a process that holds lock number n, 0 if that cannot be found out.
func (d *Dir) holder(n int) int {
	fd, err := unix.Openat(d.fd(), osfile.LockName(identityName, n), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	return osfile.LockHolder(fd, osfile.LockOffset(n))
}

// lock takes lock number n, or fails with ErrInUse.
func (d *Dir) lock(n int) (*Lock, error) {
	fd, err := unix.Openat(d.fd(), osfile.LockName(identityName, n), unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC|osfile.LockCreate, 0o600)
	if err != nil {
		return nil, fmt.Errorf("shmstore: lock %s: %w", d.path, errFull(err))
	}
	f := os.NewFile(uintptr(fd), osfile.LockName(identityName, n))
	if err := lockWhole(fd, osfile.LockOffset(n)); err != nil {
		f.Close()
		return nil, fmt.Errorf("shmstore: lock %s: %w", d.path, err)
	}
	return &Lock{file: f, dir: d}, nil
}

// locked reports whether somebody holds lock number n, without taking it.
func (d *Dir) locked(n int) (bool, error) {
	fd, err := unix.Openat(d.fd(), osfile.LockName(identityName, n), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	return osfile.IsLocked(fd, osfile.LockOffset(n))
}

// lockWhole takes a lock of an open file. ErrInUse: another has it.
func lockWhole(fd int, offset int64) error {
	if err := osfile.LockFile(fd, offset); errors.Is(err, osfile.ErrLocked) {
		return ErrInUse
	} else if err != nil {
		return err
	}
	return nil
}
