package shmstore

import (
	"errors"
	"fmt"
)

// Errors for callers that decide by the reason. A returned error wraps one of them and adds the details.
var (
	// ErrInUse: another process holds the lock.
	ErrInUse = errors.New("in use")
	// ErrUnsafeDir: the directory is not one that only its owner can change, or not on a local file system.
	ErrUnsafeDir = errors.New("unsafe directory")
	// ErrVersion: the file was written by a newer or older version of the format.
	ErrVersion = errors.New("another version of the format")
	// ErrForeign: the file does not belong to this store: a link, a copy, another user's or another store's.
	ErrForeign = errors.New("not a file of this store")
	// ErrCorrupt: the file is not what a Writer would have written.
	ErrCorrupt = errors.New("corrupt")
	// ErrFull: there is no space, in the file system or below the limit.
	ErrFull = errors.New("no space")
	// ErrLayoutChanged: the writer deleted or replaced a series since the last Refresh, or during the read.
	ErrLayoutChanged = errors.New("layout changed")
)

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}
