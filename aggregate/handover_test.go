package aggregate

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// A series that one process makes before the other deletes it is shown at every instant, and so in every scrape, whenever
// in a pass this happens.
func TestSeriesIsHandedOverDuringAScrape(t *testing.T) {
	counter := counterFamily("c_total", "l")
	add := func(l string) action { return action{Do: "add", Family: counter, Values: []string{l}, V: 1} }
	for at := 1; at <= 2; at++ {
		for _, slots := range [][2]int{{0, 1}, {1, 0}} {
			dir := newDir(t)
			from, to := startLocal(t, dir, slots[0]), startLocal(t, dir, slots[1])
			from.do(add("x"), ready)
			to.do(add("y"), ready)
			s := openStore(t, dir, Options{})
			require.Equal(t, "c_total{l=\"x\"} 1\nc_total{l=\"y\"} 1\n", text(t, s))
			calls := 0
			s.now = func() uint64 {
				if calls++; calls == at {
					to.do(add("x"))
					from.do(action{Do: "delete", Family: counter, Values: []string{"x"}})
				}
				return shmstore.Monotonic()
			}
			first := text(t, s)
			require.GreaterOrEqual(t, calls, at)
			assert.Regexp(t, "^c_total{l=\"x\"} [12]\nc_total{l=\"y\"} 1\n$", first)
			assert.Equal(t, "c_total{l=\"x\"} 2\nc_total{l=\"y\"} 1\n", text(t, s))
		}
	}
}

// unlistable is a directory that cannot be listed.
type unlistable struct{ view }

func (unlistable) Update() error { return errors.New("no") }

// While one directory cannot be listed, and a process there has deleted a series, all that was last known stays: what
// other directories had, too.
func TestUnlistedDirectoryCostsNoOther(t *testing.T) {
	dir, other := newDir(t), newDir(t)
	gauge := gaugeFamily("g", shmstore.Sum, "l")
	x := []string{"x"}
	p := startLocal(t, dir, 0)
	p.do(action{Do: "add", Family: counterFamily("c_total", "l"), Values: x, V: 1}, action{Do: "set", Family: gauge, Values: x, V: 1}, ready)
	makeD := func() *local {
		q := startLocal(t, other, 0)
		q.do(action{Do: "add", Family: counterFamily("d_total", "l"), Values: x, V: 1}, ready)
		return q
	}
	q := makeD()
	s := openStore(t, dir, Options{})
	d, err := shmstore.OpenDir(other, shmstore.DirOptions{})
	require.NoError(t, err)
	defer d.Close()
	s.sources = append(s.sources, &source{view: d.View(), path: other})
	const want = "c_total{l=\"x\"} 1\nd_total{l=\"x\"} 1\n"
	require.Equal(t, want+"g{l=\"x\"} 1\n", text(t, s))

	own := s.sources[0].view
	s.sources[0].view = unlistable{own}
	p.do(action{Do: "delete", Family: gauge, Values: x})
	require.NoError(t, q.w.Abandon())
	makeD()
	for range 2 {
		assert.Equal(t, want+"g{l=\"x\"} 1\n", text(t, s))
	}
	s.sources[0].view = own
	assert.Equal(t, want, text(t, s))
}
