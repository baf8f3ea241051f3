package worker

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/aggregate"
)

// The workers of this test are processes of their own, this binary again, so that they can be killed.
const (
	quantileDir  = "WORKER_TEST_QUANTILES_DIR"
	quantileSlot = "WORKER_TEST_QUANTILES_SLOT"
	quantileSpin = "WORKER_TEST_QUANTILES_SPIN" // observe numbers from 1 to 1024 for ever
)

const (
	quantileWorkers      = 8
	quantileObservations = 1_000_000 // of all workers, of each distribution
)

// distributions are what the workers observe. None of them is the same in all workers.
var distributions = map[string]func(r *rand.Rand, slot float64) float64{
	"uniform":   func(r *rand.Rand, slot float64) float64 { return (1 + slot) * r.Float64() },
	"normal":    func(r *rand.Rand, slot float64) float64 { return slot/10 + r.NormFloat64() },
	"lognormal": func(r *rand.Rand, slot float64) float64 { return math.Exp(slot/4 + 2*r.NormFloat64()) },
	"bimodal": func(r *rand.Rand, slot float64) float64 {
		if r.IntN(10) < 7 {
			return 0.005 + 0.001*r.NormFloat64()
		}
		return 2 + slot/8 + 0.3*r.NormFloat64()
	},
}

// distributed calls fn with each observation of a worker, which are the same ones at each call.
func distributed(name string, slot int, fn func(float64)) {
	r := rand.New(rand.NewPCG(uint64(slot), uint64(len(name))))
	for range quantileObservations / quantileWorkers {
		fn(distributions[name](r, float64(slot)))
	}
}

// quantileOpts has a window so long that the test ends within it.
var quantileOpts = prometheus.SummaryOpts{
	Name:   "observed",
	MaxAge: 1000 * time.Hour,
	Objectives: map[float64]float64{
		0: 0, 0.001: 0, 0.01: 0, 0.05: 0, 0.1: 0, 0.25: 0, 0.5: 0, 0.75: 0, 0.9: 0, 0.95: 0, 0.99: 0, 0.999: 0, 1: 0,
	},
}

func init() {
	dir := os.Getenv(quantileDir)
	if dir == "" {
		return
	}
	slot, err := strconv.Atoi(os.Getenv(quantileSlot))
	if err != nil {
		panic(err)
	}
	r := newRegistry(nil)
	if err := r.open(dir, slot); err != nil {
		panic(err)
	}
	if os.Getenv(quantileSpin) != "" {
		s := r.newSummary(spinOpts)
		for i := 0; ; i++ {
			s.Observe(math.Exp2(float64(i%997*10) / 997))
		}
	}
	v := r.newSummaryVec(quantileOpts, []string{"distribution"})
	for name := range distributions {
		distributed(name, slot, v.WithLabelValues(name).Observe)
	}
	r.storeReady()
	fmt.Println("observed")
	io.Copy(io.Discard, os.Stdin) // until the test ends, or kills it
	os.Exit(0)
}

// requireExact requires that the quantiles of the families are within 1 % of those of what the workers observed.
func requireExact(t *testing.T, families []*dto.MetricFamily, workers ...int) {
	t.Helper()
	i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "observed" })
	require.GreaterOrEqual(t, i, 0)
	require.Len(t, families[i].Metric, len(distributions))
	for _, m := range families[i].Metric {
		name := m.Label[0].GetValue()
		var values []float64
		for _, slot := range workers {
			distributed(name, slot, func(v float64) { values = append(values, v) })
		}
		slices.Sort(values)
		require.EqualValues(t, quantileObservations, m.Summary.GetSampleCount(), "of all workers, dead or alive")
		require.Len(t, m.Summary.Quantile, len(quantileOpts.Objectives))
		worst := 0.0
		for _, q := range m.Summary.Quantile {
			rank := max(int(math.Ceil(q.GetQuantile()*float64(len(values)))), 1)
			exact := values[rank-1]
			off := math.Abs(q.GetValue()-exact) / math.Abs(exact)
			worst = max(worst, off)
			require.LessOrEqual(t, off, relativeError, "%s %v: %v, not %v", name, q.GetQuantile(), q.GetValue(), exact)
		}
		t.Logf("%s: %d observations of %d workers, at most %.3f %% off", name, len(values), len(workers), 100*worst)
	}
}

func TestQuantilesOfEightWorkersAreWithinTheErrorAlsoWhenHalfOfThemDied(t *testing.T) {
	path := storeDir(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	workers := make([]*exec.Cmd, quantileWorkers)
	outputs := make([]*bufio.Reader, quantileWorkers)
	for slot := range workers {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), quantileDir+"="+path, quantileSlot+"="+strconv.Itoa(slot))
		cmd.Stderr = os.Stderr
		_, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		workers[slot], outputs[slot] = cmd, bufio.NewReader(out)
	}
	for _, out := range outputs {
		line, err := out.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "observed\n", line)
	}
	store, err := aggregate.Open(path, aggregate.Options{})
	require.NoError(t, err)
	defer store.Close()
	gather := func() []*dto.MetricFamily {
		families, err := store.Gather()
		require.NoError(t, err)
		return families
	}
	requireExact(t, gather(), 0, 1, 2, 3, 4, 5, 6, 7)

	for slot := 1; slot < quantileWorkers; slot += 2 {
		require.NoError(t, workers[slot].Process.Kill())
		workers[slot].Wait()
	}
	require.Eventually(t, func() bool { return live(gather()) == quantileWorkers/2 }, time.Minute, time.Millisecond)
	half := gather()
	requireExact(t, half, 0, 2, 4, 6)
	folded, err := store.Fold(t.Context())
	require.NoError(t, err)
	require.Equal(t, quantileWorkers/2, folded)
	require.Equal(t, text(t, half), text(t, gather()), "the fold changes nothing")
}

// live returns how many living processes' files were merged.
func live(families []*dto.MetricFamily) int {
	for _, f := range families {
		if f.GetName() != "onescrape_store_files" {
			continue
		}
		for _, m := range f.Metric {
			if m.Label[0].GetValue() == "live" {
				return int(m.Gauge.GetValue())
			}
		}
	}
	return -1
}

// spinOpts have slices that are over in 1 ms.
var spinOpts = prometheus.SummaryOpts{
	Name: "spun", MaxAge: 5 * time.Millisecond, Objectives: map[float64]float64{0: 0, 0.5: 0, 1: 0},
}

// A worker that is killed while it observes, makes octaves and turns its slices leaves a file that is whole, and until
// then every scrape is of numbers that were observed.
func TestKilledWhileItObserves(t *testing.T) {
	path := storeDir(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	var store *aggregate.Store
	for round := range 8 {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), quantileDir+"="+path, quantileSlot+"=0", quantileSpin+"=1")
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		if store == nil {
			require.Eventually(t, func() bool {
				store, err = aggregate.Open(path, aggregate.Options{})
				return err == nil
			}, time.Minute, time.Millisecond)
			defer store.Close()
		}
		// Early and late in its life.
		for seen, deadline := 0, time.Now().Add(time.Minute); seen < round*round; {
			require.True(t, time.Now().Before(deadline), "no quantiles")
			families, err := store.Gather()
			require.NoError(t, err)
			for _, f := range families {
				if f.GetName() != "spun" {
					continue
				}
				for _, q := range f.Metric[0].Summary.Quantile {
					if v := q.GetValue(); !math.IsNaN(v) {
						require.GreaterOrEqual(t, v, 0.99)
						require.LessOrEqual(t, v, 1024*1.01)
						seen++
					}
				}
			}
		}
		require.NoError(t, cmd.Process.Kill())
		cmd.Wait()
		var families []*dto.MetricFamily
		require.Eventually(t, func() bool {
			families, err = store.Gather()
			return err == nil && live(families) == 0
		}, time.Minute, time.Millisecond)
		for _, f := range families {
			for _, m := range f.Metric {
				if f.GetName() == "onescrape_store_errors_total" {
					require.Zero(t, m.Counter.GetValue(), m.Label[0].GetValue())
				}
			}
		}
		before := text(t, families)
		_, err = store.Fold(t.Context())
		require.NoError(t, err)
		families, err = store.Gather()
		require.NoError(t, err)
		require.Equal(t, before, text(t, families))
	}
}

// text returns the families but the store's own.
func text(t testing.TB, families []*dto.MetricFamily) string {
	t.Helper()
	var b strings.Builder
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "onescrape_") {
			_, err := expfmt.MetricFamilyToText(&b, f)
			require.NoError(t, err)
		}
	}
	return b.String()
}
