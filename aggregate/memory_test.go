package aggregate

import (
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/quantile"
)

// everyKind has one family of each kind that there is.
func everyKind() []shmstore.Family {
	window := summaryFamily("windowed", "l")
	window.Window = &quantile.Window{Objectives: []float64{.5, .99}, Age: time.Hour, Slices: 5, Resolution: 16}
	families := []shmstore.Family{counterFamily("c_total", "l"), histogramFamily("h", []float64{1, 2, 4}, "l"),
		bothFamily("both", 3, []float64{1, 2}, "l"), nativeFamily("native", 3, 0, "l"), window,
		summaryFamily("exported", "l"), linesFamily("exported", "l")}
	for mode := shmstore.All; mode <= shmstore.LiveMostRecent; mode++ {
		families = append(families, gaugeFamily("gauge_"+mode.String(), mode, "l"))
	}
	return families
}

// A scrape allocates as much with many series as with few, whatever kind they are of.
func TestScrapeAllocatesNothingForASeries(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has buffers thrown away at random")
	}
	for _, f := range everyKind() {
		allocations := map[int]float64{}
		for _, n := range []int{10, 300} {
			dir := newDir(t)
			for slot := range 2 {
				p := startLocal(t, dir, slot)
				for i := range n {
					values := []string{fmt.Sprint(i)}
					if f.QuantileLines {
						values = append(values, ".5")
						p.do(action{Do: "observe", Family: summaryFamily("exported", "l"), Values: values[:1], V: 2})
					}
					a := action{Do: "observe", Family: f, Values: values, V: float64(i) + .1, At: shmstore.Monotonic()}
					switch f.Type {
					case shmstore.CounterType:
						a.Do = "add"
						p.do(action{Do: "exemplar", Family: f, Values: values, V: 1, At: 1, Trace: "t"})
					case shmstore.GaugeType:
						a.Do = "set"
					}
					p.do(a)
				}
			}
			s := openStore(t, dir, Options{})
			for x := range syntaxes {
				scrape := func() {
					b := buffers.take()
					defer buffers.give(b)
					var err error
					b.bytes, err = s.appendText(b.bytes, exposition{syntax: x, created: true}, nil, nil)
					require.NoError(t, err)
				}
				scrape()
				allocations[n] += testing.AllocsPerRun(20, scrape)
			}
		}
		require.InDelta(t, allocations[10], allocations[300], 30, "%s %s %v", f.Name, f.Type, f.QuantileLines)
	}
}

// A scrape of 10,000 series takes less than 2 MiB beside the answer, however many workers there are and even if no
// memory is left from the scrapes before.
func TestScrapeMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory too")
	}
	for _, workers := range []int{1, 8} {
		dir := newDir(t)
		for slot := range workers {
			p := startLocal(t, dir, slot)
			id, err := p.w.AddFamily(counterFamily("requests_total", "n"))
			require.NoError(t, err)
			for i := range 10_000 {
				series, err := p.w.AddSeries(id, []string{fmt.Sprint("number ", i)})
				require.NoError(t, err)
				series.Cells[shmstore.CounterInteger] = uint64(i)
			}
		}
		s := openStore(t, dir, Options{})
		var answer countingWriter
		require.NoError(t, s.WriteText(&answer))
		require.NoError(t, s.WriteText(io.Discard))
		// Twice, because a pool keeps what it has over one collection.
		runtime.GC()
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		require.NoError(t, s.WriteText(io.Discard))
		runtime.ReadMemStats(&after)
		taken := int(after.TotalAlloc-before.TotalAlloc) - int(answer)
		t.Logf("%d workers: %d KiB beside an answer of %d KiB", workers, taken/1024, answer/1024)
		require.Less(t, taken, 2<<20)
	}
}

type countingWriter int

func (w *countingWriter) Write(b []byte) (int, error) {
	*w += countingWriter(len(b))
	return len(b), nil
}
