package aggregate

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// Counters are added as they are read. When a process makes its file another in the middle of a pass, whatever of it and
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
