package integration

import (
	"encoding/binary"
	"math"
	"strings"
)

// entry is a key and its numbers, as other libraries' files have them.
type entry struct {
	key     string
	numbers []float64
}

// entryFile returns the bytes of a file as client_python and prometheus-client-mmap lay them out, or, padded,
// client_ruby: there the length of a key is that with its padding.
func entryFile(padded bool, entries ...entry) []byte {
	b := make([]byte, 8)
	for _, e := range entries {
		padding := strings.Repeat(" ", 8-(len(e.key)+4)%8)
		length := len(e.key)
		if padded {
			length += len(padding)
		}
		b = binary.NativeEndian.AppendUint32(b, uint32(length))
		b = append(b, e.key+padding...)
		for _, n := range e.numbers {
			b = binary.NativeEndian.AppendUint64(b, math.Float64bits(n))
		}
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}
