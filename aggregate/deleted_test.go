package aggregate

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// Offset of the number of releases in the header of a file; FORMAT.md draws it.
const headerReleases = 216

// A process that releases while its file is read shows a later release before an earlier one. What is taken up to the
// later one would then be lost with the earlier one's cells.
func TestFoldTakesNoReleaseBeforeAllThatWentBeforeIt(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	family := counterFamily("c_total", "l")
	a, b := startLocal(t, dir, 0), startLocal(t, dir, 1)
	for i, l := range []string{"x", "y"} {
		a.do(action{Do: "add", Family: family, Values: []string{l}, V: float64(i + 1)})
		b.do(action{Do: "make", Family: family, Values: []string{l}})
	}
	for _, l := range []string{"y", "x"} {
		a.do(action{Do: "delete", Family: family, Values: []string{l}})
	}
	a.do(action{Do: "release"})
	path := filepath.Join(dir, a.w.Name())
	require.NoError(t, os.Chmod(path, 0o600))
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer file.Close()
	count := func(n uint64) {
		_, err := file.WriteAt(binary.NativeEndian.AppendUint64(nil, n), headerReleases)
		require.NoError(t, err)
	}
	taken := func() (n uint64) {
		d, err := shmstore.OpenDir(dir, shmstore.DirOptions{})
		require.NoError(t, err)
		defer d.Close()
		v := d.View()
		defer v.Close()
		require.NoError(t, v.Update())
		if v.Archive() != nil {
			for _, n = range v.Archive().Taken {
			}
		}
		return n
	}
	const want = "c_total{l=\"x\"} 1\nc_total{l=\"y\"} 2\n"
	for n := range uint64(3) {
		count(n)
		mustFold(t, s)
		assert.Equal(t, n, taken())
		assert.Equal(t, want, text(t, s))
	}
}
