package integration

import (
	"encoding/json"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// inspected is what onescrape inspect --json prints.
type inspected struct {
	Master int
	Files  []struct {
		Name             string
		PID, Slot        int
		Live             bool
		Series, Overflow int
		Used             int64 `json:"bytes_used"`
		Reserved         int64 `json:"bytes_reserved"`
		Families         []struct {
			Name, Type, Mode string
			Series           int
		}
		Error string
	}
}

func inspect(t *testing.T, store string) (inspected, result) {
	t.Helper()
	r := command(t, "inspect", "--json", "--store.path", store)
	var v inspected
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &v), "%+v", r)
	return v, r
}

// What a worker's file takes in the file system, not what it says of itself.
func TestMemoryOfAWorker(t *testing.T) {
	for _, c := range []struct {
		series string
		most   int64
	}{{"0", 128 << 10}, {"1", 128 << 10}, {"10000", 2 << 20}} {
		t.Run(c.series+" series", func(t *testing.T) {
			argv, env := asRole("series", seriesCount+"="+c.series)
			s := startRun(t, env, 1, []string{"--ready-settle", "0s"}, argv...)
			v, r := inspect(t, s.store)
			require.Equal(t, 0, r.status, r.stderr)
			if c.series == "0" && len(v.Files) == 0 {
				return // a file is made for the first series, so there is nothing yet
			}
			require.Len(t, v.Files, 1)
			f := v.Files[0]
			var st syscall.Stat_t
			require.NoError(t, syscall.Stat(filepath.Join(s.store, f.Name), &st))
			blocks := st.Blocks * 512
			t.Logf("%s series: %d bytes in the file system, %d reserved, %d used", c.series, blocks, f.Reserved, f.Used)
			assert.LessOrEqual(t, blocks, c.most)
			assert.LessOrEqual(t, f.Reserved, c.most)
			assert.LessOrEqual(t, f.Used, f.Reserved)
			assert.Equal(t, s.workers()[0], f.PID)
			assert.True(t, f.Live)
			assert.Equal(t, s.pid(), v.Master)
		})
	}
}
