package shmstore

import (
	"hash/crc32"
	"io"
	"maps"
	"slices"
)

// Behind the payload of an archive lies a table of what it has taken from living processes, so that a writer need not read
// the families to know which of its series are archived. Programs that do not know the table pass over it, and a fold by one
// leaves an old table there. So the table names the archive that it belongs to; without a valid one nothing counts as
// archived. FORMAT.md has every byte.
const (
	tabMagic = "onescrtb"

	tabGen      = 8  // the generation of the archive, and
	tabPayload  = 16 // the checksum of its payload
	tabEntries  = 20 // how many there are
	tabSince    = 24 // the generation that wrote the families first as they are now
	tabLength   = 32 // of the part of the payload that holds them
	tabSum      = 40 // checksum of that part
	tabChecksum = 44 // of the bytes before and the entries
	tabHead     = 48
	tabEntry    = 16 // nonce, release

	// maxEntries is more than there are processes. An archive that has taken from more has no table.
	maxEntries = 1 << 18
)

// tableAt returns where the table of an archive begins whose payload ends there.
func tableAt(end int64) int64 { return align(end, wordSize) }

// table is what the table of an archive says, but for its entries.
type table struct {
	since  uint64
	length int64
	sum    uint32
}

// appendTable appends the table of an archive, whose payload has that checksum.
func appendTable(b []byte, a *Archive, payload uint32) []byte {
	if len(a.ArchivedThrough) > maxEntries {
		return b
	}
	start := len(b)
	b = append(b, tabMagic...)
	b = appendUint64(b, a.Generation)
	b = appendUint32(b, payload)
	b = appendUint32(b, uint32(len(a.ArchivedThrough)))
	b = appendUint64(b, a.image.since)
	b = appendUint64(b, uint64(len(a.image.b)))
	b = appendUint32(b, a.image.sum)
	b = appendUint32(b, 0)
	for _, nonce := range slices.Sorted(maps.Keys(a.ArchivedThrough)) {
		b = appendUint64(b, nonce)
		b = appendUint64(b, a.ArchivedThrough[nonce])
	}
	t := b[start:]
	native.PutUint32(t[tabChecksum:], checksum(t[:tabChecksum], t[tabHead:]))
	return b
}

// readTable reads the table of the archive with that head, and up to which release the archive has what the process with the
// nonce released; ok is false when there is no table, or another archive's.
func readTable(f io.ReaderAt, h *archiveHead, nonce uint64) (t table, release uint64, ok bool) {
	head := make([]byte, tabHead)
	at := tableAt(h.end())
	if readWhole(f, head, at) != nil || string(head[:8]) != tabMagic {
		return t, 0, false
	}
	entries := native.Uint32(head[tabEntries:])
	if native.Uint64(head[tabGen:]) != h.generation || native.Uint32(head[tabPayload:]) != h.checksum || entries > maxEntries {
		return t, 0, false
	}
	sum := checksum(head[:tabChecksum])
	err := eachPiece(f, at+tabHead, int64(entries)*tabEntry, func(b []byte) {
		sum = crc32.Update(sum, castagnoli, b)
		for ; len(b) > 0; b = b[tabEntry:] {
			if native.Uint64(b) == nonce {
				release = native.Uint64(b[wordSize:])
			}
		}
	})
	if err != nil || sum != native.Uint32(head[tabChecksum:]) {
		return t, 0, false
	}
	t = table{
		since:  native.Uint64(head[tabSince:]),
		length: int64(native.Uint64(head[tabLength:])),
		sum:    native.Uint32(head[tabSum:]),
	}
	return t, release, t.length >= 0 && t.length <= h.length
}
