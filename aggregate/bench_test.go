package aggregate

import (
	"fmt"
	"io"
	"math"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// benchSeries are label values of 10,000 counters.
func benchSeries() [][]string {
	series := make([][]string, 10_000)
	for i := range series {
		series[i] = []string{fmt.Sprintf("code%d", i%10), fmt.Sprintf("route-%d", i/10)}
	}
	return series
}

// loop runs fn as b.Loop does and reports the processor's time beside the clock's, which other work on the machine
// stretches.
func loop(b *testing.B, fn func()) {
	b.ReportAllocs()
	begin := cpuTime(b)
	for b.Loop() {
		fn()
	}
	b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N), "cpu-ns/op")
}

func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return u.Utime.Nano() + u.Stime.Nano()
}

var benchLabels = []string{"code", "route"}

// fill makes 10,000 counters, which have counted up to v times their number.
func (p *process) fill(v float64) error {
	id, err := p.w.AddFamily(counterFamily("requests_total", benchLabels...))
	if err != nil {
		return err
	}
	for n, values := range benchSeries() {
		s, err := p.w.AddSeries(id, values)
		if err != nil {
			return err
		}
		if total := v * float64(n); total == math.Trunc(total) {
			s.Cells[shmstore.CounterInteger] = uint64(total)
		} else {
			s.Cells[shmstore.CounterFloat] = math.Float64bits(total)
		}
	}
	return nil
}

func benchStore(b *testing.B, workers int, v float64) *Store {
	dir := newDir(b)
	for i := range workers {
		require.NoError(b, startLocal(b, dir, i).fill(v))
	}
	s := openStore(b, dir, Options{})
	require.NoError(b, s.fresh())
	return s
}

// BenchmarkRollout is the first scrape after 32 workers were replaced and the old ones folded, by one that has scraped all
// the time, and one of those between the rollouts.
func BenchmarkRollout(b *testing.B) {
	dir := newDir(b)
	var workers []*child
	replace := func() {
		old := workers
		workers = nil
		for i := range 32 {
			c := startChild(b, dir, i)
			c.do(action{Do: "fill", V: 3})
			workers = append(workers, c)
		}
		for _, c := range old {
			c.killSeen(dir)
		}
	}
	replace()
	folding, s := openStore(b, dir, Options{}), openStore(b, dir, Options{})
	var first, steady, firstCPU, steadyCPU int64
	scrape := func(wall, cpu *int64) {
		begin, beginCPU := time.Now(), cpuTime(b)
		require.NoError(b, s.WriteText(io.Discard))
		*wall, *cpu = *wall+int64(time.Since(begin)), *cpu+cpuTime(b)-beginCPU
	}
	for b.Loop() {
		b.StopTimer()
		for range 10 {
			scrape(&steady, &steadyCPU)
		}
		replace()
		_, err := folding.Fold(b.Context())
		require.NoError(b, err)
		b.StartTimer()
		scrape(&first, &firstCPU)
	}
	b.ReportMetric(float64(firstCPU)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(10*float64(first)/float64(steady), "steady")
	b.ReportMetric(10*float64(firstCPU)/float64(steadyCPU), "cpu-steady")
}

// The merge of many workers beside what one process with client_golang takes for its own.
func BenchmarkGather(b *testing.B) {
	for _, workers := range []int{1, 8, 32} {
		for name, v := range map[string]float64{"whole": 3, "fractions": .1} {
			b.Run(fmt.Sprintf("workers=%d/%s", workers, name), func(b *testing.B) {
				s := benchStore(b, workers, v)
				loop(b, func() {
					families, err := s.Gather()
					require.NoError(b, err)
					require.Len(b, families[len(families)-1].Metric, 10_000)
				})
			})
			b.Run(fmt.Sprintf("workers=%d/%s/pass", workers, name), func(b *testing.B) {
				s := benchStore(b, workers, v)
				loop(b, func() {
					require.NoError(b, s.fresh())
				})
			})
		}
	}
	b.Run("client_golang", func(b *testing.B) {
		registry := benchRegistry()
		loop(b, func() {
			_, err := registry.Gather()
			require.NoError(b, err)
		})
	})
}

func benchRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total", Help: "Help."}, benchLabels)
	registry.MustRegister(vec)
	for n, values := range benchSeries() {
		vec.WithLabelValues(values...).Add(float64(3 * n))
	}
	return registry
}

func BenchmarkWriteText(b *testing.B) {
	for _, workers := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			s := benchStore(b, workers, 3)
			loop(b, func() {
				require.NoError(b, s.WriteText(io.Discard))
			})
		})
	}
	b.Run("client_golang", func(b *testing.B) {
		registry := benchRegistry()
		loop(b, func() {
			families, err := registry.Gather()
			require.NoError(b, err)
			for _, mf := range families {
				_, err := expfmt.MetricFamilyToText(io.Discard, mf)
				require.NoError(b, err)
			}
		})
	})
}

// The first scrape after a rollout of 32 workers, which plans all of it.
func BenchmarkFirstGather(b *testing.B) {
	for _, workers := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			dir := benchStore(b, workers, 3).Dir()
			loop(b, func() {
				s := openStore(b, dir, Options{})
				_, err := s.Gather()
				require.NoError(b, err)
				require.NoError(b, s.Close())
			})
		})
	}
}
