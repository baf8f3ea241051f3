package aggregate

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// A row outlives a worker when the next one has its series, and is exposed as the next one has it.
func TestRowsOutliveWorkers(t *testing.T) {
	dir := newDir(t)
	two, one := counterFamily("c_total", "a", "b"), counterFamily("c_total", "a")
	s := openStore(t, dir, Options{})
	replace := func(old *local, series ...action) *local {
		p := startLocal(t, dir, 0)
		p.do(series...)
		p.do(ready)
		if old != nil {
			require.NoError(t, old.w.Abandon())
		}
		return p
	}
	p := replace(nil, action{Do: "add", Family: two, Values: []string{"x", ""}, V: 1},
		action{Do: "add", Family: two, Values: []string{"y", ""}, V: 2})
	require.Equal(t, "c_total{a=\"x\",b=\"\"} 1\nc_total{a=\"y\",b=\"\"} 2\n", text(t, s))
	rows := &s.families["c_total"].rows[0]

	p = replace(p, action{Do: "add", Family: one, Values: []string{"y"}, V: 3}, action{Do: "add", Family: one, Values: []string{"x"}, V: 4})
	require.Equal(t, "c_total{a=\"x\"} 4\nc_total{a=\"y\"} 3\n", text(t, s), "labels are those of the series that there are")
	assert.Same(t, rows, &s.families["c_total"].rows[0])
	assert.Len(t, s.families["c_total"].rows, 2)

	p = replace(p, action{Do: "add", Family: one, Values: []string{"z"}, V: 5}, action{Do: "add", Family: one, Values: []string{"x"}, V: 6})
	require.Equal(t, "c_total{a=\"x\"} 6\nc_total{a=\"z\"} 5\n", text(t, s))

	replace(p, action{Do: "add", Family: one, Values: []string{"w"}, V: 7})
	require.Equal(t, "c_total{a=\"w\"} 7\n", text(t, s))
	f := s.families["c_total"]
	assert.Len(t, f.index, 1, "nobody keeps what nobody has")
	assert.Len(t, f.free, len(f.rows)-1)
	assert.Empty(t, f.gone)
}

// A row that goes, comes back and goes again in one pass goes once.
func TestRowGoesTwiceInOnePass(t *testing.T) {
	dir := newDir(t)
	gauge := shmstore.Family{Name: "g", Help: "Help.", Type: shmstore.GaugeType, Mode: shmstore.Sum, Labels: []string{"l"}}
	set := func(l string, v float64) action { return action{Do: "set", Family: gauge, Values: []string{l}, V: v} }
	s := openStore(t, dir, Options{})
	old := startLocal(t, dir, 0)
	old.do(set("x", 1), ready)
	require.Equal(t, "g{l=\"x\"} 1\n", text(t, s))

	p := startLocal(t, dir, 0)
	p.do(set("x", 2), set("y", 3), ready)
	require.NoError(t, old.w.Abandon())
	deleted := false
	s.now = func() uint64 {
		if !deleted {
			deleted = true
			p.do(action{Do: "delete", Family: gauge, Values: []string{"x"}})
		}
		return shmstore.Monotonic()
	}
	require.Equal(t, "g{l=\"x\"} 2\ng{l=\"y\"} 3\n", text(t, s), "what is deleted in mid-pass shows once more")
	require.True(t, deleted)
	require.Equal(t, "g{l=\"y\"} 3\n", text(t, s))
	p.do(set("a", 4), set("b", 5))
	assert.Equal(t, "g{l=\"a\"} 4\ng{l=\"b\"} 5\ng{l=\"y\"} 3\n", text(t, s))
}

// When the source that was first goes without a trace, the others' created time is what there is.
func TestCreatedIsThatOfTheSourcesThatThereAre(t *testing.T) {
	dir := newDir(t)
	family := counterFamily("c_total", "l")
	add := action{Do: "add", Family: family, Values: []string{"x"}, V: 1}
	first := startLocal(t, dir, 0)
	first.do(add, ready)
	second := startLocal(t, dir, 1)
	second.do(add, ready)
	s := openStore(t, dir, Options{})
	created := func(s *Store) int64 {
		return gatherAll(t, s)["c_total"].Metric[0].Counter.CreatedTimestamp.AsTime().UnixNano()
	}
	before := created(s)
	require.NoError(t, first.w.Abandon())
	after := created(s)
	assert.Greater(t, after, before)
	assert.Equal(t, created(openStore(t, dir, Options{})), after)
}
