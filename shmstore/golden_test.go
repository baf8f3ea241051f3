package shmstore

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
)

var update = flag.Bool("update", false, "write testdata anew, in the format of now")

// goldenDir holds a store of version 1, made on a machine with little-endian numbers.
const goldenDir = "testdata/v1"

// makeGolden writes a store that has each type, and a series in each state.
func makeGolden(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{Slot: 2})
	w.rest = 0
	for i, f := range everyType {
		s := addSeries(t, w, addFamily(t, w, f), valuesFor(&f, 1)...)
		for j := range s.Cells {
			atomic.StoreUint64(&s.Cells[j], uint64(100*i+j))
		}
	}
	for i, value := range []string{"hidden", "released", "free"} {
		s := addSeries(t, w, uint32(min(1, i/2)), []string{value, "/"}[:2-i/2]...)
		w.Delete(s)
		if i > 0 {
			w.Released(s)
		}
	}
	w.SetReady()
	w.SetOverflow(9)
	require.NoError(t, os.RemoveAll(goldenDir))
	require.NoError(t, os.MkdirAll(goldenDir, 0o755))
	for _, name := range []string{identityName, w.Name()} {
		content, err := os.ReadFile(filepath.Join(d.Path(), name))
		require.NoError(t, err)
		if name != identityName {
			clear(content[hdrBoot:hdrNonce]) // of another kernel
			encoding.Native.PutUint32(content[hdrChecksum:], encoding.Checksum(content[:hdrChecksum]))
		}
		require.NoError(t, os.WriteFile(filepath.Join(goldenDir, name), content[:min(len(content), 1<<15)], 0o644))
	}
}

func TestFileThatVersion1WroteIsStillRead(t *testing.T) {
	if *update {
		makeGolden(t)
	}
	if encoding.Native.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the numbers in it are little-endian")
	}
	path := filepath.Join(tempDir(t), "store")
	require.NoError(t, os.CopyFS(path, os.DirFS(goldenDir)))
	require.NoError(t, os.Chmod(path, 0o700))
	d, err := OpenDir(path, DirOptions{})
	require.NoError(t, err)
	defer d.Close()
	names, err := d.Names()
	require.NoError(t, err)
	require.Len(t, names, 1)
	r := openReader(t, d, names[0])
	assert.Equal(t, 2, r.Info().Slot)
	assert.False(t, r.Info().ThisBoot)
	alive, err := r.Alive()
	require.NoError(t, err)
	assert.False(t, alive)
	state, err := r.State()
	require.NoError(t, err)
	assert.True(t, state.Ready && !state.Drained)
	assert.Equal(t, 9, state.Overflow)

	assert.Equal(t, everyType, r.Families())
	require.Len(t, r.Series(), len(everyType)+3)
	assert.True(t, r.Known())
	for i, cells := range cellsOf(t, r) {
		s := r.Series()[i]
		if i < len(everyType) {
			assert.Equal(t, uint32(i), s.Family)
			assert.Equal(t, valuesFor(&everyType[i], 1), append([]string{}, s.Values...))
			for j, c := range cells {
				assert.Equal(t, uint64(100*i+j), c)
			}
			continue
		}
		what := []string{"hidden", "released", "free"}[i-len(everyType)]
		assert.Equal(t, what != "free", s.Hidden && strings.Join(s.Values, "") == what+"/")
		assert.Equal(t, what == "released", s.Release == 1)
		assert.Equal(t, what == "free", s.Free)
	}
	assert.Equal(t, uint64(unset), GaugeWord(0)^math.Float64bits(0), "the word that means never set")
}
