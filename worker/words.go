package worker

import "unsafe"

// All of the package's unsafe code. A handle keeps one pointer to the first of its words, so that it can be swapped in
// one step when the words move; these two reach the others. The caller knows how many there are, by the type.

// word returns the i-th word after first.
func word(first *uint64, i int) *uint64 {
	return (*uint64)(unsafe.Add(unsafe.Pointer(first), i*8))
}

// words returns n words from first on.
func words(first *uint64, n int) []uint64 {
	return unsafe.Slice(first, n)
}
