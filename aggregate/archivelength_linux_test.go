package aggregate

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// claimLength replaces a store's archive by one whose head is right and states a payload of that length, of which the file has
// stored bytes of junk; the rest is a hole.
func claimLength(t testing.TB, dir string, length, stored int64) {
	t.Helper()
	const lengthAt, headSum, body = 56, 68, 128
	path := filepath.Join(dir, "archive")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b = b[:body]
	binary.NativeEndian.PutUint64(b[lengthAt:], uint64(length))
	binary.NativeEndian.PutUint32(b[headSum:], crc32.Checksum(b[:headSum], crc32.MakeTable(crc32.Castagnoli)))
	for int64(len(b)) < stored {
		b = append(b, "junk"...)
	}
	require.NoError(t, os.WriteFile(path, b, 0o600))
	require.NoError(t, os.Truncate(path, max(body+length, int64(len(b)))))
}

// allocated returns how many bytes were ever allocated.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// readBytes returns how many bytes this process has ever read.
func readBytes(t testing.TB) (n uint64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	require.NoError(t, err)
	_, err = fmt.Sscanf(string(b), "rchar: %d", &n)
	require.NoError(t, err)
	return n
}

// However long an archive claims to be, a scrape takes the memory of what is stored, and a damaged archive is read once.
func TestLengthThatAnArchiveOnlyClaims(t *testing.T) {
	long(t)
	for _, c := range []struct {
		name           string
		length, stored int64
	}{
		{"4 GB with 40 KB stored", 1<<32 - 4096, 40 << 10},
		{"2 GB with 40 KB stored", 1 << 31, 40 << 10},
		{"96 MiB of junk", 96 << 20, 96 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newDir(t)
			s := openStore(t, dir, Options{})
			for _, v := range []float64{5, 7} {
				leave(t, dir, 0, action{Do: "add", Family: counterFamily("c_total"), V: v})
				require.Equal(t, 1, mustFold(t, s))
			}
			require.Equal(t, "c_total 12\n", text(t, s))
			claimLength(t, dir, c.length, c.stored)
			before := allocated()
			assert.Equal(t, "c_total 5\n", text(t, s), "the generation before")
			assert.Less(t, allocated()-before, uint64(16<<20))
			assert.Equal(t, 1, errorCounts(t, s)["corrupt"])

			// Once the file has been as it is for a moment, nothing but its state is looked at.
			require.Eventually(t, func() bool {
				begun := readBytes(t)
				assert.Equal(t, "c_total 5\n", text(t, s))
				return readBytes(t)-begun < 16<<10
			}, time.Minute, 50*time.Millisecond)

			// The next fold sets it aside and goes on from the generation before.
			leave(t, dir, 0, action{Do: "add", Family: counterFamily("c_total"), V: 1})
			before = allocated()
			require.Equal(t, 1, mustFold(t, s))
			assert.Less(t, allocated()-before, uint64(16<<20))
			assert.Equal(t, "c_total 6\n", text(t, s))
		})
	}
}
