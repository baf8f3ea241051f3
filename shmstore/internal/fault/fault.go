// Package fault turns the fault of reading mapped memory whose file has become shorter into an error.
package fault

import (
	"errors"
	"runtime/debug"
	"unsafe"
)

// ErrTruncated: the file of the memory was truncated while it was read.
var ErrTruncated = errors.New("the file was truncated while it was read")

// Guard runs fn, which reads the mapped memory, and returns its error, or ErrTruncated when it faulted there. Any other
// panic goes on. It is for one goroutine: what fn starts is not guarded.
func Guard(memory []byte, fn func() error) (err error) {
	before := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(before)
		r := recover()
		if r == nil {
			return
		}
		var fault interface{ Addr() uintptr }
		if e, ok := r.(error); !ok || !errors.As(e, &fault) || !contains(memory, fault.Addr()) {
			panic(r)
		}
		err = ErrTruncated
	}()
	return fn()
}

func contains(memory []byte, addr uintptr) bool {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(memory)))
	return addr >= start && addr < start+uintptr(len(memory))
}
