package shmstore

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
	"github.com/onescrape/onescrape/shmstore/internal/osfile"
	"github.com/onescrape/onescrape/shmstore/quantile"
)

// What a fuzzed input is, by the bits of its first byte.
const (
	fuzzHeader  = 1 << iota // it is what follows a right header, so that the records are read; otherwise the whole file
	fuzzRecords             // make the checksums of records right, so that what they say is believed
	fuzzGrow                // the second half comes after the first was read
)

// FuzzReader reads files of any content. Nothing may make it panic, go on for ever or allocate much more than the file
// is long, and what it accepts must be consistent.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0})
	f.Add(append([]byte{0}, smallContent(f)[:headerSize+500]...))
	for mode := range byte(8) {
		f.Add(append([]byte{mode}, seedRecords(everyType[:1])...))
		f.Add(append([]byte{mode}, seedRecords(everyType[2:4])...))
		f.Add(append([]byte{mode}, seedRecords(everyType)...))
		f.Add(append([]byte{mode}, seedRecords(quantileLines)...))
		f.Add(append([]byte{mode}, append(seedRecords(nativeTypes), make([]byte, 8*nativeTypes[0].Words())...)...))
		f.Add(append([]byte{mode}, seedWindow()...))
		f.Add(append([]byte{mode}, sharedCells()...))
		f.Add(append([]byte{mode}, seedRecords([]Family{longNames(1, 1<<16)})...))
		f.Add(append([]byte{mode}, seedRecords([]Family{longNames(maxLabels/8, MaxName)})...))
	}
	for mode := range byte(4) {
		f.Add(append([]byte{mode<<1 | fuzzHeader}, exemplarRecords(f)...))
	}
	d := newStore(f)
	name := fileName(4711, 1)
	file, err := os.OpenFile(filepath.Join(d.Path(), name), os.O_RDWR|os.O_CREATE, 0o600)
	require.NoError(f, err)
	f.Cleanup(func() { file.Close() })
	layout := uint64(0)
	write := func(t *testing.T, mode byte, data []byte) {
		t.Helper()
		content := bytes.Clone(data)
		if mode&fuzzHeader != 0 {
			content = append(make([]byte, headerSize), data...)
			copy(content, magic)
			encoding.Native.PutUint32(content[hdrVersion:], version)
			encoding.Native.PutUint32(content[hdrOrder:], orderMark)
			copy(content[hdrStore:], d.id[:])
			encoding.Native.PutUint64(content[hdrNonce:], 1)
			encoding.Native.PutUint32(content[hdrPID:], 4711)
			encoding.Native.PutUint32(content[hdrChecksum:], encoding.Checksum(content[:hdrChecksum]))
			encoding.Native.PutUint64(content[hdrUsed:], uint64(len(content)/wordSize*wordSize))
			encoding.Native.PutUint64(content[hdrLayout:], layout)
			encoding.Native.PutUint64(content[hdrAux:], layout+1)
			layout++
		}
		if mode&fuzzRecords != 0 && len(content) >= headerSize {
			mendRecords(content)
		}
		_, err := file.WriteAt(content, 0)
		require.NoError(t, err)
		require.NoError(t, file.Truncate(int64(len(content))))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 || len(data) > 1<<18 {
			return
		}
		mode, data := data[0], data[1:]
		first := data
		if mode&fuzzGrow != 0 {
			first = data[:len(data)/2/wordSize*wordSize]
		}
		write(t, mode, first)
		before := allocated()
		r, err := d.Open(name)
		if err != nil {
			return
		}
		defer r.Close()
		readAnything(t, r)
		if mode&fuzzGrow != 0 {
			write(t, mode, data)
			readAnything(t, r)
		}
		write(t, mode, first)
		readAnything(t, r)
		// Few bytes may be many labels; each is a string then. The fuzzer allocates meanwhile, some hundred kilobytes at times.
		require.Less(t, allocated()-before, uint64(100*len(data)+8<<20))
	})
}

// allocated returns how many bytes were ever allocated.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// fuzzedPairs is where the largest window there can be is read to.
var fuzzedPairs = make([]uint64, 0, 8+2*quantile.Octaves*quantile.MaxResolution)

// readAnything reads all of a file and requires that it is consistent, whatever it says.
func readAnything(t *testing.T, r *Reader) {
	t.Helper()
	r.State()
	r.Alive()
	refreshed := r.Refresh()
	require.Equal(t, len(r.series), len(r.records))
	for i := range r.Families() {
		require.NoError(t, r.Families()[i].checkStored())
	}
	for _, s := range r.Series() {
		if s.Free {
			continue
		}
		require.Less(t, int(s.Family), len(r.Families()))
		f := &r.Families()[s.Family]
		require.Len(t, s.Values, len(f.Labels))
		require.EqualValues(t, f.Words(), s.Words)
		require.GreaterOrEqual(t, int(s.Cell), headerSize/wordSize)
		require.LessOrEqual(t, int(s.Cell+s.Words), len(r.memory.Words))
	}
	sum := uint64(0)
	now, budget := osfile.Monotonic(), 1<<18
	read := r.Read(func(words []uint64) {
		for _, s := range r.Series() {
			if s.Free {
				continue
			}
			if w := r.Families()[s.Family].Window; w != nil && s.Window != 0 {
				pairs := w.AppendCounts(fuzzedPairs[:0], words, int(s.Window), now, w.Length(), &budget)
				require.Len(t, pairs, 1+2*int(pairs[0]))
			}
			cells := words[s.Cell : s.Cell+s.Words]
			if f := &r.Families()[s.Family]; f.timed() {
				LoadTimed(cells)
			} else if f.Native != nil {
				f.AppendNative(nil, cells)
			}
			for j := range cells {
				sum += atomic.LoadUint64(&cells[j])
			}
		}
	})
	if refreshed == nil {
		require.NoError(t, read, "nobody writes")
	}
	asked := make([]int32, 0, len(r.Series()))
	for i := range r.Series() {
		asked = append(asked, int32(i))
	}
	r.ReadExemplars(asked, func(_, _ int, e *Exemplar) {
		require.LessOrEqual(t, len(e.Labels), MaxExemplarLabels)
		e.Pairs()
	})
	r.ReadStable(func(i int, cells []uint64) {
		require.Len(t, cells, int(r.Series()[i].Words))
		r.AppendWindow(fuzzedPairs[:0], i, now, math.MaxUint64, &budget)
	})
}

// mendRecords makes the checksums of records right, as far as one follows another.
func mendRecords(content []byte) {
	used := int64(min(encoding.Native.Uint64(content[hdrUsed:]), uint64(len(content))))
	for at := int64(headerSize); at+recHead <= used; {
		length := int64(encoding.Native.Uint32(content[at:]))
		if length < recHead || at+length > used {
			return
		}
		record := content[at : at+length]
		switch {
		case encoding.Native.Uint16(record[recKind:]) != kindSeries:
			encoding.Native.PutUint32(record[recChecksum:], familyChecksum(record))
		case length >= seriesValues:
			if end := seriesValues + int64(encoding.Native.Uint32(record[seriesBody:])); end <= length {
				encoding.Native.PutUint32(record[recChecksum:], seriesChecksum(record[:end]))
			}
		}
		if next := at + length; encoding.Native.Uint16(record[recKind:]) == kindJump && length == jumpSize {
			if at = int64(encoding.Native.Uint64(record[jumpTarget:])); at < next {
				return
			}
		} else {
			at = next
		}
	}
}

// smallContent returns the shortest file that has one series.
func smallContent(t testing.TB) []byte {
	t.Helper()
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	addSeries(t, w, addFamily(t, w, everyType[0]), "200", "/")
	content, err := os.ReadFile(filepath.Join(d.Path(), w.Name()))
	require.NoError(t, err)
	return content[:headerSize+firstSegment+pageSize]
}

// exemplarRecords returns what follows the header of a file with an exemplar.
func exemplarRecords(t testing.TB) []byte {
	t.Helper()
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	s := addSeries(t, w, addFamily(t, w, Family{Name: "c", Type: CounterType}))
	_, err := w.StoreExemplar(s, 0, &Exemplar{Value: 1, At: 2, Labels: AppendExemplarLabel(nil, "a", "b")})
	require.NoError(t, err)
	content, err := os.ReadFile(filepath.Join(d.Path(), w.Name()))
	require.NoError(t, err)
	return content[headerSize:w.space.next]
}

// seedRecords returns the records of families and of a series of each, whose cells are anywhere.
func seedRecords(families []Family) (b []byte) {
	cells := uint64(headerSize)
	for i, f := range families {
		b = append(b, aRecord(kindFamily, appendFamily(nil, &f))...)
		body := make([]byte, seriesValues-recHead)
		for _, v := range valuesFor(&f, i) {
			body = encoding.AppendString(body, v)
		}
		s := aRecord(kindSeries, body)
		encoding.Native.PutUint32(s[recFamily:], uint32(i))
		encoding.Native.PutUint64(s[seriesState:], seriesShown)
		encoding.Native.PutUint64(s[seriesCells:], cells)
		cells += uint64(encoding.Align(int64(wordSize*f.Words()), lineSize))
		encoding.Native.PutUint32(s[seriesWords:], uint32(f.Words()))
		end := recHead + len(body)
		encoding.Native.PutUint32(s[seriesBody:], uint32(end-seriesValues))
		encoding.Native.PutUint32(s[recChecksum:], seriesChecksum(s[:end]))
		b = append(b, s...)
	}
	return b
}

// sharedCells returns the records of two series with the same cells.
func sharedCells() []byte {
	b := seedRecords(everyType[:1])
	series := b[encoding.Native.Uint32(b):] // behind the family
	return append(b, series...)
}

// longNames returns a counter with n labels whose names have so many bytes.
func longNames(n, length int) Family {
	f := Family{Name: "c", Type: CounterType}
	for i := range n {
		f.Labels = append(f.Labels, fmt.Sprintf("%03d", i)+strings.Repeat("l", length-3))
	}
	return f
}

// seedWindow returns the records of a summary whose window, and an octave of it, are in a record of no known kind.
func seedWindow() (b []byte) {
	b = seedRecords([]Family{windowFamily})
	at := int(encoding.Native.Uint32(b)) // behind the family
	window := headerSize + len(b) + recHead
	encoding.Native.PutUint64(b[at+seriesAux:], uint64(window))
	encoding.Native.PutUint32(b[at+recChecksum:], seriesChecksum(b[at:at+seriesValues+int(encoding.Native.Uint32(b[at+seriesBody:]))]))
	words := make([]uint64, windowFamily.Window.Words()+windowFamily.Window.OctaveWords())
	words[0] = quantile.WindowHead(windowFamily.Window.Words())
	words[quantile.WindowOctaves] = uint64(window + wordSize*windowFamily.Window.Words())
	for i := range windowFamily.Window.Slices {
		words[quantile.WindowSlices+i*quantile.SliceWords+quantile.SliceEpoch] = windowFamily.Window.Epoch(osfile.Monotonic())
	}
	for i := range windowFamily.Window.OctaveWords() {
		words[windowFamily.Window.Words()+i] = 1
	}
	var body []byte
	for _, w := range words {
		body = encoding.AppendUint64(body, w)
	}
	return append(b, aRecord(99, body)...)
}

// aRecord returns a record with a right checksum.
func aRecord(kind uint16, body []byte) []byte {
	b := make([]byte, encoding.Align(int64(recHead+len(body)), wordSize))
	encoding.Native.PutUint32(b[recLength:], uint32(len(b)))
	encoding.Native.PutUint16(b[recKind:], kind)
	copy(b[recHead:], body)
	encoding.Native.PutUint32(b[recChecksum:], familyChecksum(b))
	return b
}
