package shmstore

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
)

// churner is a writer that has released one series, which the archive has taken.
func churner(t *testing.T, d *Dir) (w *Writer, f uint32) {
	w, err := d.Create(WriterOptions{Slot: 0})
	require.NoError(t, err)
	f, err = w.AddFamily(Family{Name: "jobs_total", Type: CounterType, Labels: []string{"kind"}})
	require.NoError(t, err)
	s, err := w.AddSeries(f, []string{"old"})
	require.NoError(t, err)
	w.Delete(s)
	w.Released(s)
	_, err = d.View().Fold(FoldOptions{Merge: foldCounters})
	require.NoError(t, err)
	return w, f
}

// archiveBytes returns the archive's file, and where its table begins.
func archiveBytes(t *testing.T, d *Dir) (b []byte, table int) {
	b, err := os.ReadFile(filepath.Join(d.path, archiveName))
	require.NoError(t, err)
	return b, int(tableAt(arcBody + int64(encoding.Native.Uint64(b[arcLength:]))))
}

// A writer takes what the table says, if it is whole and belongs to the archive, and nothing otherwise.
func TestWriterReadsTheTableOfTheArchiveAlone(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(b []byte, table int)
		reuse bool
	}{
		{"as it is", func([]byte, int) {}, true},
		{"damaged families", func(b []byte, _ int) { b[arcBody+20] ^= 0xff }, true},
		{"no table", func(b []byte, at int) { clear(b[at:]) }, false},
		{"another generation's", func(b []byte, at int) { mendTable(b, at, tabGen) }, false},
		{"of another payload", func(b []byte, at int) { mendTable(b, at, tabPayload) }, false},
		{"a damaged entry", func(b []byte, at int) { b[at+tabHead+wordSize] ^= 1 }, false},
		{"too many entries", func(b []byte, at int) { encoding.Native.PutUint32(b[at+tabEntries:], 1<<31) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := storeDir(t)
			w, f := churner(t, d)
			b, table := archiveBytes(t, d)
			c.spoil(b, table)
			require.NoError(t, os.WriteFile(filepath.Join(d.path, archiveName), b, 0o600))
			before := allocated()
			_, err := w.AddSeries(f, []string{"new"})
			require.NoError(t, err)
			assert.Less(t, allocated()-before, uint64(1<<20))
			assert.Equal(t, !c.reuse, len(w.pending) > 0)
		})
	}
}

// mendTable changes a number of a table, and makes its checksum right.
func mendTable(b []byte, at, number int) {
	b[at+number]++
	end := at + tabHead + tabEntry*int(encoding.Native.Uint32(b[at+tabEntries:]))
	encoding.Native.PutUint32(b[at+tabChecksum:], encoding.Checksum(b[at:at+tabChecksum], b[at+tabHead:end]))
}

// With a large archive a writer that needs room of deleted series waits for no more than a few kilobytes.
func TestWorkerThatLearnsOneNumber(t *testing.T) {
	d := storeDir(t)
	const series = 50_000
	padding := &Archive{ArchivedThrough: map[uint64]uint64{}, Families: []ArchivedFamily{{Family: Family{
		Name: "other_total", Type: CounterType, Labels: []string{"id"}}}}}
	for i := range series {
		padding.Families[0].Series = append(padding.Families[0].Series, ArchivedSeries{
			Values: []string{fmt.Sprint(i)}, Created: time.Unix(1, 0), Words: []uint64{1, 0, 0}})
	}
	w, f := churner(t, d)
	padding.ArchivedThrough[w.nonce] = 1
	die(t, count(t, d, 1))
	_, err := d.View().Fold(FoldOptions{Merge: func(*Archive, []*Reader, []*Reader) (*Archive, error) { return padding, nil }})
	require.NoError(t, err)
	require.NotEmpty(t, w.pending)
	before := allocated()
	_, err = w.AddSeries(f, []string{"new"})
	require.NoError(t, err)
	assert.Less(t, allocated()-before, uint64(64<<10))
	assert.Empty(t, w.pending)
}

// A table that names more than it holds, or ends behind the file, or is any other bytes, says nothing and takes no memory.
func FuzzTable(f *testing.F) {
	a := &Archive{Generation: 3, ArchivedThrough: map[uint64]uint64{7: 8, 9: 10}, image: &image{since: 2}}
	whole := appendTable(nil, a, 5)
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	huge := append([]byte{}, whole...)
	encoding.Native.PutUint32(huge[tabEntries:], maxEntries)
	f.Add(huge)
	f.Fuzz(func(t *testing.T, b []byte) {
		file := sparse{arcBody, b}
		h := archiveHead{generation: 3, checksum: 5}
		before := allocated()
		_, release, ok := readTable(file, &h, 7)
		if !ok {
			assert.Zero(t, release)
		}
		assert.Less(t, allocated()-before, uint64(1<<20))
	})
}

// sparse is a file that has b at an offset.
type sparse struct {
	at int64
	b  []byte
}

func (s sparse) ReadAt(p []byte, at int64) (int, error) {
	n := 0
	if at -= s.at; at >= 0 && at < int64(len(s.b)) {
		n = copy(p, s.b[at:])
	}
	if n < len(p) {
		return n, fmt.Errorf("the end")
	}
	return n, nil
}
