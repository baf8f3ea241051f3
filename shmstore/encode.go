package shmstore

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// Everything in a file is in the byte order of the machine that wrote it, which the header names.
var native = binary.NativeEndian

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is the CRC-32C over parts, one after the other.
func checksum(parts ...[]byte) uint32 {
	var c uint32
	for _, p := range parts {
		c = crc32.Update(c, castagnoli, p)
	}
	return c
}

func appendUint32(b []byte, v uint32) []byte { return native.AppendUint32(b, v) }
func appendUint64(b []byte, v uint64) []byte { return native.AppendUint64(b, v) }

// appendString appends the length as a varint and the bytes.
func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decoder reads what the append functions wrote. After the first thing that does not fit it is bad and returns zeros.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) uint8() uint8 {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if p := d.take(2); p != nil {
		return native.Uint16(p)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if p := d.take(4); p != nil {
		return native.Uint32(p)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if p := d.take(8); p != nil {
		return native.Uint64(p)
	}
	return 0
}

func (d *decoder) string() string { return string(d.text()) }

// text is string without a copy.
func (d *decoder) text() []byte {
	n, size := binary.Uvarint(d.b)
	if size <= 0 || n > maxString {
		d.bad = true
		return nil
	}
	d.take(uint64(size))
	return d.take(n)
}

func align(n, to int64) int64 { return (n + to - 1) / to * to }

func appendFloat(b []byte, v float64) []byte { return appendUint64(b, math.Float64bits(v)) }

func (d *decoder) float() float64 { return math.Float64frombits(d.uint64()) }
