package shmstore

import (
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
	"github.com/onescrape/onescrape/shmstore/nativehist"
)

// Native says that a histogram has native buckets, with or without classic ones beside them.
type Native struct {
	// Schema is the resolution that a series begins with, from -4 to 8.
	Schema int
	// Buckets is how many buckets a series may have, the zero bucket not counted, before its process makes it coarser.
	Buckets int
	// ZeroThreshold is how far from zero the zero bucket of a new series ends.
	ZeroThreshold float64
	// MaxZeroThreshold is up to where the process widens the zero bucket before it halves the resolution.
	MaxZeroThreshold float64
}

// MaxNativeBuckets is the largest value of Native.Buckets.
const MaxNativeBuckets = 4096

// The cells of native buckets, behind the classic ones. There are two tables, of which the selector names the one that
// counts. The words of a table before its slots describe it.
const (
	// NativeSelector is the first cell: the table is number selector mod 2.
	NativeSelector = 0
	// NativeTables is where the tables begin.
	NativeTables = 1

	// NativeHalvings is how often the resolution was halved since the series was new.
	NativeHalvings = 0
	// NativeThreshold is the zero threshold, the bits of a float64; 0: that of the family.
	NativeThreshold = 1
	// NativeSlots is where the slots of a table begin.
	NativeSlots = 2
)

// A slot is one word. It is free, or it holds how often the resolution was halved, the code of a bucket, and a count. A
// bucket whose count does not fit in one slot has several slots. A slot with the mark belongs to a table that is being
// replaced, and never changes again.
//
// A goroutine may still use a table when its cells have become the table after the next one. So a word never has the same
// bits with another meaning: a free slot holds the table's selector, and a bucket of another resolution has another number
// of halvings.
const (
	// SlotMark is the mark.
	SlotMark = 1 << 63
	// SlotHalvings is where the halvings begin.
	SlotHalvings = SlotBits + nativehist.CodeBits
	// SlotBits is where the code begins. The bit below says that the slot is full.
	SlotBits = 38
	// SlotMax is what a slot counts up to.
	SlotMax = 1 << (SlotBits - 1)
)

// Slot returns a slot's code and count; code 0 when it is free, and then the count means nothing.
func Slot(word uint64) (nativehist.Code, uint64) {
	return nativehist.Code(word >> SlotBits & (1<<nativehist.CodeBits - 1)), word & (1<<SlotBits - 1)
}

// Slots returns how many slots each table has: a power of two that is at least one and a half times the number of buckets,
// so that a search is short.
func (n *Native) Slots() int {
	const least = 64
	return max(least, 1<<bits.Len(uint(n.Buckets*8/5-1)))
}

// words returns how many cells the native buckets of a series have.
func (n *Native) words() int {
	if n == nil {
		return 0
	}
	return NativeTables + 2*n.tableWords()
}

func (n *Native) tableWords() int { return NativeSlots + n.Slots() }

// Table returns the place of a table among the native cells.
func (n *Native) Table(selector uint64) int { return NativeTables + int(selector&1)*n.tableWords() }

// NativeCells returns where the native cells of the family's series begin.
func (f *Family) NativeCells() int { return HistogramBuckets + len(f.Bounds) + 1 }

// nativeLength is the length of the option in a family's record.
const nativeLength = 4 + 4 + 8 + 8

func appendNative(b []byte, n *Native) []byte {
	b = encoding.Native.AppendUint16(b, tagNative)
	b = encoding.AppendUint32(b, nativeLength)
	b = encoding.AppendUint32(b, uint32(int32(n.Schema)))
	b = encoding.AppendUint32(b, uint32(n.Buckets))
	b = encoding.AppendFloat(b, n.ZeroThreshold)
	return encoding.AppendFloat(b, n.MaxZeroThreshold)
}

// decodeNative reads what appendNative wrote behind tag and length; nil when it is none.
func decodeNative(d *encoding.Decoder) *Native {
	n := &Native{Schema: int(int32(d.Uint32())), Buckets: int(d.Uint32()), ZeroThreshold: d.Float(), MaxZeroThreshold: d.Float()}
	if d.Bad || len(d.B) > 0 {
		return nil
	}
	return n
}

// nativeTries is how often a reader looks at native buckets whose resolution changes meanwhile. It changes some dozens of
// times in the life of a series, so only a file that somebody else made exhausts them.
const nativeTries = 100

// NativeUnreadable stands for the schema of native buckets that could not be read.
const NativeUnreadable = math.MaxUint64

// AppendNative appends a series' native buckets to buf, read from its cells, all of them: by how much the schema is above
// the least, the bits of the zero threshold, the number of slots that follow, and those which are in use, without marks. It
// reads whole tables only, while the process goes on counting and whenever it was killed. What the slots hold is not looked
// at. When no table held still, or cannot be, the schema is NativeUnreadable and there are no slots.
func (f *Family) AppendNative(buf, cells []uint64) []uint64 {
	n := f.Native
	cells = cells[f.NativeCells():]
	start := len(buf)
	for range nativeTries {
		selector := atomic.LoadUint64(&cells[NativeSelector])
		table := cells[n.Table(selector):][:n.tableWords()]
		halvings := atomic.LoadUint64(&table[NativeHalvings])
		threshold := atomic.LoadUint64(&table[NativeThreshold])
		buf = append(buf[:start], 0, 0, 0)
		for i := range table[NativeSlots:] {
			if word := atomic.LoadUint64(&table[NativeSlots+i]) &^ SlotMark; word>>SlotBits != 0 {
				buf = append(buf, word)
			}
		}
		if atomic.LoadUint64(&cells[NativeSelector]) != selector {
			continue
		}
		schema := n.Schema - int(min(halvings, 100))
		if threshold == 0 {
			threshold = math.Float64bits(n.ZeroThreshold)
		}
		if v := math.Float64frombits(threshold); schema < nativehist.MinSchema || !(v >= 0 && v <= math.MaxFloat64) {
			break
		}
		buf[start], buf[start+1], buf[start+2] = uint64(schema-nativehist.MinSchema), threshold, uint64(len(buf)-start-3)
		return buf
	}
	return append(buf[:start], NativeUnreadable, 0, 0)
}

// stillNative copies a series' cells, with native buckets that fit together; false when no table held still.
func (f *Family) stillNative(buf, cells []uint64) ([]uint64, bool) {
	at := f.NativeCells()
	for i := range cells[:at] {
		buf = append(buf, atomic.LoadUint64(&cells[i]))
	}
	cells = cells[at:]
	start := len(buf)
	for range nativeTries {
		buf = buf[:start]
		selector := atomic.LoadUint64(&cells[NativeSelector])
		for i := range cells {
			buf = append(buf, atomic.LoadUint64(&cells[i]))
		}
		if atomic.LoadUint64(&cells[NativeSelector]) == selector {
			return buf, true
		}
	}
	return buf[:start], false
}
