// Package encoding writes and reads the numbers and strings of a file.
package encoding

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// Native is the byte order of this machine. Everything in a file is in the order of the machine that wrote it,
// which the header names.
var Native = binary.NativeEndian

// Castagnoli is the polynomial of Checksum.
var Castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the CRC-32C over parts, one after the other.
func Checksum(parts ...[]byte) uint32 {
	var c uint32
	for _, p := range parts {
		c = crc32.Update(c, Castagnoli, p)
	}
	return c
}

// AppendUint32 appends 4 bytes.
func AppendUint32(b []byte, v uint32) []byte { return Native.AppendUint32(b, v) }

// AppendUint64 appends 8 bytes.
func AppendUint64(b []byte, v uint64) []byte { return Native.AppendUint64(b, v) }

// AppendString appends the length as a varint and the bytes.
func AppendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// MaxString is how many bytes a string may have.
const MaxString = 1 << 20

// Decoder reads what the append functions wrote. After the first thing that does not fit it is bad and returns zeros.
type Decoder struct {
	B   []byte
	Bad bool
}

// Take returns the next n bytes; nil when there are not that many.
func (d *Decoder) Take(n uint64) []byte {
	if d.Bad || n > uint64(len(d.B)) {
		d.Bad = true
		return nil
	}
	p := d.B[:n]
	d.B = d.B[n:]
	return p
}

// Uint8 reads 1 byte.
func (d *Decoder) Uint8() uint8 {
	if p := d.Take(1); p != nil {
		return p[0]
	}
	return 0
}

// Uint16 reads 2 bytes.
func (d *Decoder) Uint16() uint16 {
	if p := d.Take(2); p != nil {
		return Native.Uint16(p)
	}
	return 0
}

// Uint32 reads 4 bytes.
func (d *Decoder) Uint32() uint32 {
	if p := d.Take(4); p != nil {
		return Native.Uint32(p)
	}
	return 0
}

// Uint64 reads 8 bytes.
func (d *Decoder) Uint64() uint64 {
	if p := d.Take(8); p != nil {
		return Native.Uint64(p)
	}
	return 0
}

// String reads what AppendString wrote.
func (d *Decoder) String() string { return string(d.Text()) }

// Text is string without a copy.
func (d *Decoder) Text() []byte {
	n, size := binary.Uvarint(d.B)
	if size <= 0 || n > MaxString {
		d.Bad = true
		return nil
	}
	d.Take(uint64(size))
	return d.Take(n)
}

// Align returns n rounded up to a multiple of to.
func Align(n, to int64) int64 { return (n + to - 1) / to * to }

// AppendFloat appends the 8 bytes of a float64.
func AppendFloat(b []byte, v float64) []byte { return AppendUint64(b, math.Float64bits(v)) }

// Float reads what AppendFloat wrote.
func (d *Decoder) Float() float64 { return math.Float64frombits(d.Uint64()) }
