package master

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/master/internal/metrics"
	"github.com/onescrape/onescrape/shmstore"
)

// The store takes 64 KiB of status. Of more slots than that it has what matters, then none, and always the rest.
func TestStatusOfManyWorkers(t *testing.T) {
	d, err := shmstore.OpenDir(t.TempDir(), shmstore.DirOptions{Create: true})
	require.NoError(t, err)
	defer d.Close()
	lock, err := d.LockMaster()
	require.NoError(t, err)
	defer lock.Close()
	for _, test := range []struct {
		workers int
		slots   int
		text    bool
	}{{10, 10, true}, {400, 400, false}, {maxWorkers, 0, false}} {
		st := Status{PID: 1, Workers: test.workers, Ready: true}
		for i := range test.workers {
			st.Slots = append(st.Slots, Slot{Slot: i, PID: 4000000, State: ready, Started: time.Now(), LastExit: "exit status 1",
				Text: strings.Repeat("x", maxText)})
		}
		m := metrics.New(nil, "", 0)
		m.Restart("exit")
		r := &record{log: slog.Default(), metrics: m}
		r.set(st, lock, nil)
		_, text, err := d.Master()
		require.NoError(t, err)
		var got Status
		require.NoError(t, json.Unmarshal(text, &got))
		assert.Equal(t, test.workers, got.Workers)
		assert.True(t, got.Ready)
		if assert.Len(t, got.Slots, test.slots) && test.slots > 0 {
			assert.Equal(t, ready, got.Slots[test.slots-1].State)
			assert.Equal(t, test.text, got.Slots[0].Text != "")
		}
		assert.NotEmpty(t, st.Slots[0].Text, "the endpoint's are as they were")
		assert.EqualValues(t, 1, metrics.New(text, "", 0).Totals().Restarts["exit"])
	}
}
