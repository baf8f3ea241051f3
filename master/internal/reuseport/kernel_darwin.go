package reuseport

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/master/internal/proc"
)

var errNoGroups = errors.New(steeringMissing)

// Members implements Kernel.
func (OS) Members(unix.Sockaddr) (proc.Inodes, error) { return nil, errNoGroups }

// Refuse implements Kernel.
func (OS) Refuse(int, int, bool) error { return errNoGroups }

// Drops implements Kernel.
func (OS) Drops(int) (uint32, error) { return 0, errNoGroups }

// Probe implements Kernel.
func (OS) Probe(unix.Sockaddr, bool) (int, error) { return -1, errNoGroups }

// Taken implements Kernel.
func (OS) Taken(int) bool { return false }

// Reset implements Kernel.
func (OS) Reset(int) {}
