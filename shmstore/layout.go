package shmstore

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
	"github.com/onescrape/onescrape/shmstore/quantile"
)

// The format of a process's file; FORMAT.md draws it. Offsets and sizes are named here once.

const (
	magic     = "onescrap"
	version   = 1
	orderMark = 0x01020304

	pageSize = 4096
	lineSize = 64
	wordSize = 8
	// headerSize is where the first segment of records begins.
	headerSize = quantile.Header
)

// The header: what never changes, under a checksum, then words that the writer stores atomically.
const (
	hdrMagic    = 0
	hdrVersion  = 8
	hdrOrder    = 12
	hdrStore    = 16 // 16 bytes
	hdrBoot     = 32 // 16 bytes
	hdrNonce    = 48
	hdrPID      = 56
	hdrSlot     = 60
	hdrStarted  = 64 // ns since 1970
	hdrMono     = 72 // ns of Monotonic
	hdrFlags    = 80 // none yet
	hdrChecksum = 84

	hdrState    = 128 // stateReady, stateDrained
	hdrReadyAt  = 136 // ns of Monotonic, stored before stateReady
	hdrUsed     = 192 // records are valid before this offset
	hdrReserved = 200 // bytes of the file that may be touched
	hdrLayout   = 208 // raised whenever what a reader has parsed is no longer so
	hdrReleases = 216 // number of series released so far
	hdrOverflow = 224 // series that found no space and live in process memory
	hdrAux      = 232 // raised whenever a series gets an extra block
)

const (
	stateReady   = 1 << 0
	stateDrained = 1 << 1
)

// A record: length, kind and a checksum over all that never changes in it.
const (
	recLength   = 0 // a multiple of 8, head included
	recKind     = 4 // 2 bytes
	recFlags    = 6 // 2 bytes, none yet
	recChecksum = 8
	recFamily   = 12 // of a series: the family's number
	recHead     = 16
)

// maxRecord bounds what a reader takes for a record.
const maxRecord = 16 << 20

// Kinds of records. No single flipped bit turns one into another.
const (
	kindJump   = 1 // the next record is in another segment
	kindFamily = 2
	kindSeries = 4
)

// A jump: the head and the offset of the next record, always further on in the file.
const (
	jumpTarget = recHead
	jumpSize   = recHead + wordSize
)

// A family: the head and a body in appendFamily's order.
const familyBody = recHead

// Tags of a family's options, each followed by a 4 byte length and that many bytes. A reader passes over a tag that it
// does not know.
const (
	tagBounds        = 1
	tagNative        = 4
	tagQuantileLines = 8
	tagWindow        = 16
)

// A series. Words up to seriesCells and seriesAux change, the rest is under the checksum.
const (
	seriesState     = 16 // a generation above, one of the states below in the low byte
	seriesNumber    = 24 // the number of its release, from 1; valid when released
	seriesDeletedAt = 32 // ns of Monotonic
	seriesCells     = 40 // offset of the cells
	seriesWords     = 48 // number of cells
	seriesBody      = 52 // bytes of label values
	seriesCreated   = 56 // ns since 1970
	seriesBorn      = 64 // ns of Monotonic
	seriesAux       = 72 // offset of the extra block, stored when the series gets one; 0: none
	seriesValues    = 80
)

// States of a series. No single flipped bit turns one into another.
const (
	seriesFree     = 0x3c // nothing
	seriesShown    = 0x5a
	seriesHidden   = 0xa5 // deleted, but a handle may still write to the cells
	seriesReleased = 0xc3 // deleted, and what the cells hold is final
)

func seriesStateOf(word uint64) uint64 { return word & 0xff }

// nextState returns the word for state in the next generation.
func nextState(word uint64, state uint64) uint64 { return (word>>8+1)<<8 | state }

const fileSuffix = ".shm"

// fileName is the name of a process's file. It is evidence of nothing; the header must say the same.
func fileName(pid int, nonce uint64) string {
	return fmt.Sprintf("%d-%016x%s", pid, nonce, fileSuffix)
}

func parseFileName(name string) (pid int, nonce uint64, ok bool) {
	base, ok := strings.CutSuffix(name, fileSuffix)
	if !ok {
		return 0, 0, false
	}
	p, n, ok := strings.Cut(base, "-")
	if !ok || len(n) != 16 {
		return 0, 0, false
	}
	pid, err := strconv.Atoi(p)
	if err != nil || pid <= 0 {
		return 0, 0, false
	}
	b, err := hex.DecodeString(n)
	if err != nil {
		return 0, 0, false
	}
	for _, c := range b {
		nonce = nonce<<8 | uint64(c)
	}
	return pid, nonce, fileName(pid, nonce) == name
}

func appendFamily(b []byte, f *Family) []byte {
	b = append(b, byte(f.Type), byte(f.Mode))
	b = encoding.Native.AppendUint16(b, uint16(len(f.Labels)))
	b = encoding.AppendString(b, f.Name)
	b = encoding.AppendString(b, f.Help)
	b = encoding.AppendString(b, f.Unit)
	for _, l := range f.Labels {
		b = encoding.AppendString(b, l)
	}
	if len(f.Bounds) > 0 {
		b = encoding.Native.AppendUint16(b, tagBounds)
		b = encoding.AppendUint32(b, uint32(wordSize*len(f.Bounds)))
		for _, v := range f.Bounds {
			b = encoding.AppendFloat(b, v)
		}
	}
	if f.QuantileLines {
		b = encoding.Native.AppendUint16(b, tagQuantileLines)
		b = encoding.AppendUint32(b, 0)
	}
	if f.Native != nil {
		b = appendNative(b, f.Native)
	}
	if f.Window != nil {
		option := appendWindow(nil, f.Window)
		b = encoding.Native.AppendUint16(b, tagWindow)
		b = append(encoding.AppendUint32(b, uint32(len(option))), option...)
	}
	return encoding.Native.AppendUint16(b, 0)
}

// decodeFamily reads what appendFamily wrote. known is false when there is an option in it that this program does not
// know and has passed over.
func decodeFamily(b []byte) (f Family, known bool, err error) {
	d := encoding.Decoder{B: b}
	known = true
	f.Type, f.Mode = Type(d.Uint8()), GaugeMode(d.Uint8())
	labels := int(d.Uint16())
	f.Name, f.Help, f.Unit = d.String(), d.String(), d.String()
	if labels > maxLabels {
		return Family{}, false, corrupt("a family of %d labels", labels)
	}
	for range labels {
		f.Labels = append(f.Labels, d.String())
	}
	for !d.Bad {
		tag := d.Uint16()
		if tag == 0 {
			break
		}
		option := encoding.Decoder{B: d.Take(uint64(d.Uint32()))}
		switch tag {
		case tagBounds:
			for len(option.B) >= wordSize && len(f.Bounds) <= maxBounds {
				f.Bounds = append(f.Bounds, option.Float())
			}
		case tagQuantileLines:
			f.QuantileLines = true
		case tagNative:
			if f.Native = decodeNative(&option); f.Native == nil {
				return Family{}, false, corrupt("family %q: native buckets of %d bytes", f.Name, len(option.B))
			}
		case tagWindow:
			f.Window = decodeWindow(&option)
		default:
			known = false
		}
	}
	if d.Bad {
		return Family{}, false, corrupt("a family record ends early")
	}
	if err := f.checkStored(); err != nil {
		return Family{}, false, corrupt("family %q: %v", f.Name, err)
	}
	return f, known, nil
}
