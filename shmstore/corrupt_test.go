package shmstore

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
	"github.com/onescrape/onescrape/shmstore/internal/mapped"
)

// specimen is a file of a store that a test may damage: its content, and what a reader makes of it.
type specimen struct {
	dir      *Dir
	name     string
	file     *os.File
	content  []byte
	families []Family
	series   []SeriesInfo
	cells    [][]uint64
	parts    [][2]int64 // where records are
	end      int64      // of all that the file holds
}

// newSpecimen makes a file with a series of each type, deleted ones, a free record, and records in two segments.
func newSpecimen(t testing.TB) *specimen {
	t.Helper()
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{Slot: 2})
	w.rest = 0
	value := uint64(1)
	add := func(f Family, values ...string) *Series {
		s := addSeries(t, w, addFamily(t, w, f), values...)
		for i := range s.Cells {
			atomic.StoreUint64(&s.Cells[i], value)
			value++
		}
		return s
	}
	for _, f := range everyType {
		add(f, valuesFor(&f, 1)...)
	}
	w.Delete(add(everyType[0], "deleted", "/"))
	released := add(everyType[0], "released", "/")
	w.Delete(released)
	w.Released(released)
	free := add(everyType[1], "free")
	w.Delete(free)
	w.Released(free)
	w.segment.end = w.segment.next + jumpSize // as if it were full
	later := Family{Name: "later", Help: strings.Repeat("help ", 50), Type: CounterType, Labels: []string{"a"}}
	add(later, "1")
	add(later, "2")
	w.SetReady()

	content, err := os.ReadFile(filepath.Join(d.Path(), w.Name()))
	require.NoError(t, err)
	require.NoError(t, w.Abandon())
	file, err := os.OpenFile(filepath.Join(d.Path(), w.Name()), os.O_RDWR|os.O_CREATE, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() })
	s := &specimen{dir: d, name: w.Name(), file: file, content: content}
	s.write(t, content)
	r := openReader(t, d, w.Name())
	s.families, s.series, s.cells = r.Families(), r.Series(), cellsOf(t, r)
	require.Len(t, s.series, len(everyType)+4, "one is where another was")
	s.end = r.seen.used
	for _, info := range s.series {
		s.end = max(s.end, int64(info.Cell+info.Words)*wordSize)
	}
	for offset := int64(headerSize); offset < r.seen.used; {
		length := int64(encoding.Native.Uint32(content[offset:]))
		s.parts = append(s.parts, [2]int64{offset, offset + length})
		if encoding.Native.Uint16(content[offset+recKind:]) == kindJump {
			offset = int64(encoding.Native.Uint64(content[offset+jumpTarget:]))
		} else {
			offset += length
		}
	}
	require.Len(t, s.parts, len(s.series)+len(s.families)+1, "with a jump")
	return s
}

func (s *specimen) write(t testing.TB, content []byte) {
	t.Helper()
	_, err := s.file.WriteAt(content, 0)
	require.NoError(t, err)
	require.NoError(t, s.file.Truncate(int64(len(content))))
}

// read opens the file and reads all of it. Whatever it has read must be what was written, or a beginning of it, but for
// the states of series.
func (s *specimen) read(t testing.TB) error {
	t.Helper()
	r, err := s.dir.Open(s.name)
	if err != nil {
		return err
	}
	defer r.Close()
	return s.check(t, r)
}

// check is read of a file that was opened just now.
func (s *specimen) check(t testing.TB, r *Reader) error {
	t.Helper()
	if _, err := r.State(); err != nil {
		return err
	}
	refreshed := r.Refresh()
	require.LessOrEqual(t, len(r.Families()), len(s.families))
	for i, f := range r.Families() {
		if !reflect.DeepEqual(s.families[i], f) {
			require.Equal(t, s.families[i], f)
		}
	}
	require.LessOrEqual(t, len(r.Series()), len(s.series))
	for i, got := range r.Series() {
		want := s.series[i]
		// The words that the writer stores may say what they like.
		got.Hidden, got.Release = want.Hidden, want.Release
		got.Exemplars = want.Exemplars
		if !reflect.DeepEqual(want, got) {
			require.Equal(t, want, got)
		}
	}
	if refreshed != nil {
		return refreshed
	}
	check := func(i int, got []uint64) {
		if !slices.Equal(s.cells[i], got) {
			require.Equal(t, s.cells[i], got)
		}
	}
	if err := r.Read(func(words []uint64) {
		for i, info := range r.Series() {
			if !info.Free {
				check(i, words[info.Cell:info.Cell+info.Words])
			}
		}
	}); err != nil {
		return err
	}
	return r.ReadStable(func(i int, got []uint64) {
		if !r.Families()[r.Series()[i].Family].timed() {
			check(i, got)
		}
	})
}

func TestFileTruncatedAtAnyLengthIsAnErrorOrWhole(t *testing.T) {
	s := newSpecimen(t)
	require.NoError(t, s.read(t))
	whole, broken := int64(len(s.content)), false
	for n := whole - 1; n >= 0; n-- {
		if n%7 != 0 && n != s.end && n > headerSize && !slices.ContainsFunc(s.parts, func(p [2]int64) bool {
			return n >= p[0] && n <= p[1]
		}) {
			// No record is there; some lengths are enough.
			continue
		}
		require.NoError(t, s.file.Truncate(n))
		if err := s.read(t); err == nil {
			require.False(t, broken, "shorter than one that was broken")
			whole = n
		} else {
			require.ErrorIs(t, err, ErrCorrupt)
			broken = true
		}
	}
	assert.Equal(t, s.end, whole)
}

func TestFileTruncatedWhileItIsMappedIsAnErrorAndNoFault(t *testing.T) {
	s := newSpecimen(t)
	for n := len(s.content) - 1; n >= 0; n -= 61 {
		s.write(t, s.content)
		r := openReader(t, s.dir, s.name)
		sum := uint64(0)
		during := n%2 == 0
		if !during {
			require.NoError(t, s.file.Truncate(int64(n)))
		}
		require.ErrorIs(t, r.Read(func(words []uint64) {
			if during {
				require.NoError(t, s.file.Truncate(int64(n)))
			}
			for _, info := range r.Series() {
				for i := range info.Words {
					sum += atomic.LoadUint64(&words[info.Cell+i])
				}
			}
		}), ErrCorrupt)
		require.ErrorIs(t, r.ReadStable(func(int, []uint64) {}), ErrCorrupt)
		require.ErrorIs(t, r.Refresh(), ErrCorrupt)
		_, err := r.State()
		require.ErrorIs(t, err, ErrCorrupt)
		r.Close()
	}
}

func TestFaultOfSomethingElseIsNotTakenForTheFile(t *testing.T) {
	s := newSpecimen(t)
	r := openReader(t, s.dir, s.name)
	other := openReader(t, s.dir, s.name)
	assert.PanicsWithValue(t, "mine", func() { r.Read(func([]uint64) { panic("mine") }) })
	assert.Panics(t, func() {
		r.Read(func([]uint64) {
			require.NoError(t, s.file.Truncate(headerSize))
			_ = atomic.LoadUint64(&other.memory.Words[len(other.memory.Words)-1])
		})
	})
}

func TestNoFlippedBitMakesAnotherSeries(t *testing.T) {
	s := newSpecimen(t)
	parts := append([][2]int64{{0, hdrOverflow + wordSize}}, s.parts...)
	memory := s.load(t)
	broken, read := 0, 0
	for _, part := range parts {
		for at := part[0]; at < part[1]; at++ {
			for bit := range 8 {
				memory.Bytes[at] ^= 1 << bit
				r, err := s.open(memory)
				if err == nil {
					err = s.check(t, r)
				}
				if err == nil {
					read++
				} else {
					require.True(t, isDamage(err), "at %d: %v", at, err)
					broken++
				}
				if r.memory.Addr != memory.Addr {
					// It has looked at the file again, and has unmapped this.
					r.memory.Unmap()
					memory = s.load(t)
				} else {
					memory.Bytes[at] ^= 1 << bit
				}
			}
		}
	}
	r, err := s.open(memory)
	require.NoError(t, err)
	require.NoError(t, s.check(t, r))
	require.NoError(t, memory.Unmap())
	// What a flipped bit may change unnoticed: words that the writer stores, and what no reader looks at.
	assert.Greater(t, broken, read)
}

// load maps memory with the file's content, which can be damaged faster than a file.
func (s *specimen) load(t testing.TB) mapped.Memory {
	t.Helper()
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(len(s.content)), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON)
	require.NoError(t, err)
	m := mapped.New(p, int64(len(s.content)))
	copy(m.Bytes, s.content)
	return m
}

// open is Dir.Open for a file that has been mapped already.
func (s *specimen) open(m mapped.Memory) (*Reader, error) {
	pid, nonce, _ := parseFileName(s.name)
	r := &Reader{file: s.file, info: Info{Name: s.name}, memory: m}
	return r, r.guard(func() error { return r.readHeader(s.dir.id, pid, nonce) })
}

func isDamage(err error) bool {
	for _, e := range []error{ErrCorrupt, ErrForeign, ErrVersion, ErrLayoutChanged} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func TestFileOfAnotherVersionIsAClearError(t *testing.T) {
	s := newSpecimen(t)
	for _, c := range []struct {
		offset int
		value  uint32
		is     error
		says   string
	}{
		{hdrVersion, version + 1, ErrVersion, "version 2, this program reads 1"},
		{hdrVersion, 0, ErrVersion, "version 0, this program reads 1"},
		{hdrOrder, 0x04030201, ErrVersion, "byte order"},
		{hdrStore, 0, ErrForeign, "id of another"},
		{hdrPID, 1, ErrForeign, "not that of its header"},
		{hdrNonce, 1, ErrForeign, "not that of its header"},
		{hdrSlot, 0xffff_fffe, ErrCorrupt, "slot"},
	} {
		b := bytes.Clone(s.content)
		encoding.Native.PutUint32(b[c.offset:], c.value)
		encoding.Native.PutUint32(b[hdrChecksum:], encoding.Checksum(b[:hdrChecksum]))
		s.write(t, b)
		err := s.read(t)
		require.ErrorIs(t, err, c.is)
		assert.ErrorContains(t, err, c.says)
		assert.ErrorContains(t, err, s.name)
	}
	// A newer one may have moved even what the checksum covers.
	b := bytes.Clone(s.content)
	b[hdrVersion]++
	s.write(t, b)
	require.ErrorIs(t, s.read(t), ErrVersion)
}

func TestWhatANewerWriterAddsIsPassedOverAndSeen(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	addSeries(t, w, addFamily(t, w, everyType[7]))

	// A record of an unknown kind.
	offset, err := w.append(recHead + 8)
	require.NoError(t, err)
	record := w.memory.Bytes[offset : offset+recHead+8]
	encoding.Native.PutUint16(record[recKind:], 99)
	encoding.Native.PutUint32(record[recChecksum:], familyChecksum(record))
	w.publish()
	r := openReader(t, d, w.Name())
	assert.False(t, r.Known())

	// A family with an unknown option.
	body := appendFamily(nil, &everyType[0])
	body = body[:len(body)-2]
	body = encoding.Native.AppendUint16(body, 99)
	body = encoding.AppendUint32(body, 3)
	body = append(body, 1, 2, 3, 0, 0)
	offset, err = w.append(encoding.Align(int64(recHead+len(body)), wordSize))
	require.NoError(t, err)
	record = w.memory.Bytes[offset:w.segment.next]
	encoding.Native.PutUint16(record[recKind:], kindFamily)
	copy(record[familyBody:], body)
	encoding.Native.PutUint32(record[recChecksum:], familyChecksum(record))
	w.publish()
	w.kinds = append(w.kinds, familyKind{words: CounterWords, labels: 2})
	addSeries(t, w, 1, "200", "/")
	require.NoError(t, r.Refresh())
	assert.Equal(t, []Family{everyType[7], everyType[0]}, r.Families())
	require.Len(t, r.Series(), 2)
	assert.Equal(t, []string{"200", "/"}, r.Series()[1].Values)
	assert.False(t, r.Known())
}

// The number of every word of a file that is read fits the int32s of who keeps them.
func TestFileThatIsTooLarge(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	addSeries(t, w, addFamily(t, w, Family{Name: "c", Type: CounterType}))
	path := filepath.Join(d.Path(), w.Name())
	require.NoError(t, os.Chmod(path, 0o600))
	for _, size := range []int64{maxLimit, maxLimit + 1} {
		require.NoError(t, os.Truncate(path, size))
		r, err := d.Open(w.Name())
		if size > maxLimit {
			assert.ErrorIs(t, err, ErrCorrupt)
		} else if assert.NoError(t, err) {
			r.Close()
		}
	}
	assert.LessOrEqual(t, int64(maxLimit/wordSize-1), int64(math.MaxInt32))
}
