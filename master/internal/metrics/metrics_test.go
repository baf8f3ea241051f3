package metrics

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/aggregate"
)

// What Collect sends, Describe has announced: a pedantic registry refuses anything else.
func TestDescribeHasWhatCollectSends(t *testing.T) {
	m := New(nil, "1.2.3", 0)
	m.Set(Gauges{Workers: map[string]int{"ready": 2}})
	m.Rollout("reload", "done", time.Second)
	r := prometheus.NewPedanticRegistry()
	require.NoError(t, r.Register(m))
	families, err := r.Gather()
	require.NoError(t, err)
	described := make(chan *prometheus.Desc, 100)
	m.Describe(described)
	assert.Len(t, families, len(described), "each description has a metric")
	problems, err := testutil.CollectAndLint(m)
	require.NoError(t, err)
	assert.Empty(t, problems)
}

// A master goes on from the totals that the one before left.
func TestTotalsGoOn(t *testing.T) {
	before := New(nil, "", 0)
	before.Restart("exit")
	before.StoreMoved()
	before.Rollout("upgrade", "abandoned", 2*time.Second)
	before.Scraped(3*time.Millisecond, &aggregate.Totals{Errors: map[string]int{"io": 7}})
	text, err := json.Marshal(map[string]any{"counters": before.Totals()})
	require.NoError(t, err)
	after := New(text, "", 5)
	after.Restart("exit")
	after.Rollout("upgrade", "abandoned", time.Minute)
	got := after.Totals()
	assert.EqualValues(t, 2, got.Restarts["exit"])
	assert.EqualValues(t, 1, got.StoreMoved)
	assert.EqualValues(t, 2, got.Rollouts["upgrade abandoned"])
	assert.Equal(t, 62.0, got.Rolling["upgrade"].Sum)
	assert.Equal(t, 7, got.Store.Errors["io"])
	assert.GreaterOrEqual(t, got.LogDropped, uint64(5))
	got.Restarts["exit"] = 100
	assert.EqualValues(t, 2, after.Totals().Restarts["exit"], "a copy")
}
