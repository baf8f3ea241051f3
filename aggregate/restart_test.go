package aggregate

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/aggregate/internal/accumulator"
	"github.com/onescrape/onescrape/shmstore"
)

// Series are copied from archive to archive as bytes, but not times of a clock that a restart of the system has set back: a
// process of this boot ranks above all of the boot before, however long that lasted.
func TestRankOfAnArchivedSlotAfterARestart(t *testing.T) {
	dir := newDir(t)
	gauge, newest := gaugeFamily("slot", shmstore.All), gaugeFamily("newest", shmstore.MostRecent)
	churned := counterFamily("churned_total", "l")
	const late = 1 << 60 // more than this boot has lasted
	d, err := shmstore.OpenDir(dir, shmstore.DirOptions{})
	require.NoError(t, err)
	defer d.Close()
	v := d.View()
	defer v.Close()
	leave(t, dir, 0, action{Do: "add", Family: counterFamily("c_total"), V: 1})
	_, err = v.Fold(shmstore.FoldOptions{Merge: func(*shmstore.Archive, []*shmstore.Reader, []*shmstore.Reader) (*shmstore.Archive, error) {
		return &shmstore.Archive{Families: []shmstore.ArchivedFamily{
			{Family: gauge, Series: []shmstore.ArchivedSeries{{Words: []uint64{0, math.Float64bits(5), late, accumulator.RankReady | accumulator.RankThisBoot}}}},
			{Family: newest, Series: []shmstore.ArchivedSeries{{Words: []uint64{1, math.Float64bits(5), late, 1}}}},
		}}, nil
	}})
	require.NoError(t, err)
	path := filepath.Join(dir, "archive")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	clear(b[32:48]) // another boot
	binary.NativeEndian.PutUint32(b[68:], crc32.Checksum(b[:68], crc32.MakeTable(crc32.Castagnoli)))
	require.NoError(t, os.WriteFile(path, b, 0o600))

	// The first archive of this boot only takes a release; no family changes.
	s := openStore(t, dir, Options{})
	p := startLocal(t, dir, 3)
	p.do(action{Do: "add", Family: churned, Values: []string{"x"}, V: 1}, action{Do: "delete", Family: churned, Values: []string{"x"}},
		action{Do: "release"})
	mustFold(t, s)
	require.NoError(t, v.Update())
	require.EqualValues(t, 2, v.Archive().Generation)
	require.True(t, v.Archive().ThisBoot)
	leave(t, dir, 0, action{Do: "set", Family: gauge, V: 7}, action{Do: "set", Family: newest, V: 7}, ready)
	const want = "newest 7\nslot{worker=\"0\"} 7\n"
	assert.Equal(t, want, text(t, s))
	mustFold(t, s)
	assert.Equal(t, want, text(t, s))
}
