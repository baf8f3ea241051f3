// Package mapped has memory that is mapped from files, with its two views as bytes and as words. Whatever needs package unsafe
// is here.
package mapped

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore/internal/fault"
)

// wordBytes is how many bytes a word has.
const wordBytes = 8

// Memory is memory outside Go's heap. Its methods check bounds and otherwise access it as it is.
type Memory struct {
	Addr  unsafe.Pointer
	Bytes []byte
	Words []uint64
}

// New returns the memory of length bytes at addr.
func New(addr unsafe.Pointer, length int64) Memory {
	return Memory{
		Addr:  addr,
		Bytes: unsafe.Slice((*byte)(addr), length),
		Words: unsafe.Slice((*uint64)(addr), length/wordBytes),
	}
}

// Load loads the word at the offset atomically.
func (m *Memory) Load(offset int64) uint64 { return atomic.LoadUint64(&m.Words[offset/wordBytes]) }

// Store stores the word at the offset atomically.
func (m *Memory) Store(offset int64, v uint64) { atomic.StoreUint64(&m.Words[offset/wordBytes], v) }

// Add adds to the word at the offset atomically and returns the sum.
func (m *Memory) Add(offset int64, v uint64) uint64 {
	return atomic.AddUint64(&m.Words[offset/wordBytes], v)
}

// Zero stores zero into n words from offset on.
func (m *Memory) Zero(offset int64, n int) {
	for i := range int64(n) {
		m.Store(offset+i*wordBytes, 0)
	}
}

// Copy copies whole words from offset on to b, in this order and each as load does: so that a load after it sees what the
// writer did before it wrote what was copied.
func (m *Memory) Copy(b []byte, offset int64) {
	for i := 0; i < len(b); i += wordBytes {
		binary.NativeEndian.PutUint64(b[i:], m.Load(offset+int64(i)))
	}
}

// Reserve takes a range of addresses that nothing is mapped into yet. Touching it is a fault.
func Reserve(length int64) (Memory, error) {
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(length), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return Memory{}, fmt.Errorf("reserve %d bytes of address space: %w", length, err)
	}
	return New(p, length), nil
}

// Fill maps the file's bytes from offset to end, for reading and writing, to their place in the range.
func (m *Memory) Fill(fd int, offset, end int64) error {
	_, err := unix.MmapPtr(fd, offset, unsafe.Add(m.Addr, offset), uintptr(end-offset), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_FIXED)
	return err
}

// File maps length bytes of the file for reading.
func File(fd int, length int64) (Memory, error) {
	p, err := unix.MmapPtr(fd, 0, nil, uintptr(length), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return Memory{}, err
	}
	return New(p, length), nil
}

// Unmap ends the mapping. Unmapping the zero Memory does nothing.
func (m *Memory) Unmap() error {
	if m.Addr == nil {
		return nil
	}
	err := unix.MunmapPtr(m.Addr, uintptr(len(m.Bytes)))
	*m = Memory{}
	return err
}

// StringOf returns the text that is in b, which nobody may write to from now on.
func StringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Guard runs fn, which reads m, and turns a fault in m into fault.ErrTruncated: the file was truncated. It is for one goroutine:
// what fn starts is not guarded.
func (m *Memory) Guard(fn func() error) error { return fault.Guard(m.Bytes, fn) }
