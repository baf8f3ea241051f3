package shmstore

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore/internal/fault"
)

// Whatever needs package unsafe is here: memory that is mapped, and its two views as bytes and as words.

// mapping is memory outside Go's heap. Its methods check bounds and otherwise access it as it is.
type mapping struct {
	addr  unsafe.Pointer
	bytes []byte
	words []uint64
}

func newMapping(addr unsafe.Pointer, length int64) mapping {
	return mapping{
		addr:  addr,
		bytes: unsafe.Slice((*byte)(addr), length),
		words: unsafe.Slice((*uint64)(addr), length/wordSize),
	}
}

func (m *mapping) load(offset int64) uint64     { return atomic.LoadUint64(&m.words[offset/wordSize]) }
func (m *mapping) store(offset int64, v uint64) { atomic.StoreUint64(&m.words[offset/wordSize], v) }
func (m *mapping) add(offset int64, v uint64) uint64 {
	return atomic.AddUint64(&m.words[offset/wordSize], v)
}

// zero stores zero into n words from offset on.
func (m *mapping) zero(offset int64, n int) {
	for i := range int64(n) {
		m.store(offset+i*wordSize, 0)
	}
}

// copy copies whole words from offset on to b, in this order and each as load does: so that a load after it sees what the
// writer did before it wrote what was copied.
func (m *mapping) copy(b []byte, offset int64) {
	for i := 0; i < len(b); i += wordSize {
		native.PutUint64(b[i:], m.load(offset+int64(i)))
	}
}

// reserve takes a range of addresses that nothing is mapped into yet. Touching it is a fault.
func reserve(length int64) (mapping, error) {
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(length), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return mapping{}, fmt.Errorf("reserve %d bytes of address space: %w", length, err)
	}
	return newMapping(p, length), nil
}

// fill maps the file's bytes from offset to end, for reading and writing, to their place in the range.
func (m *mapping) fill(fd int, offset, end int64) error {
	_, err := unix.MmapPtr(fd, offset, unsafe.Add(m.addr, offset), uintptr(end-offset), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_FIXED)
	return err
}

// mapFile maps length bytes of the file for reading.
func mapFile(fd int, length int64) (mapping, error) {
	p, err := unix.MmapPtr(fd, 0, nil, uintptr(length), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return mapping{}, err
	}
	return newMapping(p, length), nil
}

func (m *mapping) unmap() error {
	if m.addr == nil {
		return nil
	}
	err := unix.MunmapPtr(m.addr, uintptr(len(m.bytes)))
	*m = mapping{}
	return err
}

// stringOf returns the text that is in b, which nobody may write to from now on.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// guard runs fn, which reads m, and turns a fault in m (the file was truncated) into ErrCorrupt. It is for one goroutine:
// what fn starts is not guarded.
func (m *mapping) guard(fn func() error) error {
	err := fault.Guard(m.bytes, fn)
	if errors.Is(err, fault.ErrTruncated) {
		return corrupt("%v", err)
	}
	return err
}
