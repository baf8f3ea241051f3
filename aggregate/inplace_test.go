package aggregate

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// Cells are added as they are read. When a process makes its file another in the middle of a pass, whatever of it and
// of others was added by then must not count twice.
func TestFileChangesWhileOthersAreAdded(t *testing.T) {
	dir := newDir(t)
	counter := counterFamily("c_total", "l")
	histogram := shmstore.Family{Name: "h", Help: "Help.", Type: shmstore.HistogramType, Bounds: []float64{1}}
	var processes []*local
	for slot := range 3 {
		p := startLocal(t, dir, slot)
		for _, l := range []string{"x", "y"} {
			p.do(action{Do: "add", Family: counter, Values: []string{l}, V: 1},
				action{Do: "add", Family: counter, Values: []string{l}, V: .25})
		}
		p.do(action{Do: "observe", Family: histogram, V: .5}, ready)
		processes = append(processes, p)
	}
	want := `c_total{l="x"} 3.75
c_total{l="y"} 3.75
h_bucket{le="1"} 3
h_bucket{le="+Inf"} 3
h_sum 1.5
h_count 3
`
	s := openStore(t, dir, Options{})
	require.Equal(t, want, text(t, s))
	changed, last := 0, 0
	for which := range processes {
		for at := 1; at <= 2*len(processes); at++ {
			calls := 0
			s.now = func() uint64 {
				if calls++; calls == at {
					// What was deleted counts as long as somebody shows the series.
					y := action{Family: counter, Values: []string{"y"}}
					for _, do := range []string{"delete", "make"} {
						y.Do = do
						processes[which].do(y)
					}
					changed++
				}
				return shmstore.Monotonic()
			}
			assert.Equal(t, want, text(t, s), "process %d, at %d", which, at)
			last = max(last, calls)
		}
	}
	assert.GreaterOrEqual(t, changed, len(processes)*len(processes), "each file changed before each was read")
	assert.Greater(t, last, len(processes), "what was added was added anew")
	assert.Equal(t, want, text(t, openStore(t, dir, Options{})))
}

// A process changes its file each time before a file is read, so none that it has holds still. All types are exposed as if
// nothing had changed, and each pass ends.
func TestFileThatChangesBeforeEveryRead(t *testing.T) {
	dir := newDir(t)
	window := windowedFamily("w", 1, 1, "l")
	families := []shmstore.Family{counterFamily("c_total", "l"), histogramFamily("h", []float64{1, 2}, "l"),
		nativeFamily("n", 2, 0, "l"), summaryFamily("s", "l"), window, gaugeFamily("all", shmstore.All, "l"),
		gaugeFamily("recent", shmstore.MostRecent, "l"), gaugeFamily("sum", shmstore.Sum, "l")}
	var processes []*local
	for slot := range 3 {
		p := startLocal(t, dir, slot)
		for i, f := range families {
			do := map[shmstore.Type]string{shmstore.CounterType: "add", shmstore.GaugeType: "set"}[f.Type]
			if do == "" {
				do = "observe"
			}
			p.do(action{Do: do, Family: f, Values: []string{"x"}, V: float64(slot+i) + .25, At: uint64(slot + 1)})
		}
		p.do(ready)
		processes = append(processes, p)
	}
	s := openStore(t, dir, Options{})
	want := users(t, s)
	restless := counterFamily("restless_total", "l")
	calls := 0
	s.now = func() uint64 {
		for _, p := range processes {
			values := []string{strconv.Itoa(calls % 3)}
			p.do(action{Do: "add", Family: restless, Values: values, V: 1}, action{Do: "delete", Family: restless, Values: values})
		}
		calls++
		return shmstore.Monotonic()
	}
	for range 20 {
		calls = 0
		got := slices.DeleteFunc(users(t, s), func(line string) bool { return strings.Contains(line, "restless_total") })
		assert.Equal(t, want, got)
		assert.Less(t, calls, 100)
	}
	for _, f := range s.files {
		assert.True(t, f.restless)
	}
}
