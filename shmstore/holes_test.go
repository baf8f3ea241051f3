package shmstore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
)

// A file that announces gigabytes of records, nearly all of which are a hole, makes no room for as many series.
func TestRecordsThatAFileOnlyAnnounces(t *testing.T) {
	d := storeDir(t)
	w := count(t, d, 1)
	die(t, w)
	path := filepath.Join(d.path, w.Name())
	require.NoError(t, os.Chmod(path, 0o600))
	const claimed = 8 << 30
	if err := os.Truncate(path, claimed); err != nil {
		t.Skipf("the file system has no file of this size: %v", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer f.Close()
	for _, at := range []int64{hdrUsed, hdrReserved} {
		_, err = f.WriteAt(encoding.AppendUint64(nil, claimed), at)
		require.NoError(t, err)
	}
	before := allocated()
	r, err := d.Open(w.Name())
	if err != nil {
		require.ErrorIs(t, err, unix.ENOMEM, "no address space for the mapping")
		t.Skip(err)
	}
	defer r.Close()
	require.ErrorIs(t, r.Refresh(), ErrCorrupt)
	assert.Less(t, allocated()-before, uint64(32<<20))
}
