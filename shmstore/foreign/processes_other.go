//go:build !linux

package foreign

import "golang.org/x/sys/unix"

// processes cannot be told apart from the dead without leases.
type processes struct{}

func newProcesses() *processes { return &processes{} }

func (*processes) mayHave(*Kind, *unix.Stat_t) bool { return true }
