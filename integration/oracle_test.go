package integration

import (
	"math/rand/v2"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/worker"
)

// The oracle is client_golang: what oracleWorkers workers do, with the metrics of package worker and, once more, with
// plain ones that are exported, one registry of client_golang does by itself, and the scrape is the same.
const (
	oracleWorkers = 4
	oracleSeries  = 40
	oracleOps     = 5000
)

var (
	oracleBounds = []float64{-1, 0, 0.5, 20}
	oracleModes  = []worker.GaugeMode{worker.All, worker.LiveAll, worker.Sum, worker.LiveSum, worker.Min, worker.LiveMin,
		worker.Max, worker.LiveMax, worker.Avg, worker.LiveAvg}
	oracleLabels = []string{"i", "x"}
)

// instruments are metrics of every type, made by either library.
type instruments struct {
	counter    func(lvs ...string) prometheus.Counter
	histogram  func(lvs ...string) prometheus.Observer
	unbounded  func(lvs ...string) prometheus.Observer
	summary    func(lvs ...string) prometheus.Observer
	gauge      func(lvs ...string) prometheus.Gauge
	gaugeModes map[worker.GaugeMode]func(lvs ...string) prometheus.Gauge
}

// operate does what the worker of that slot does. The numbers are such that their sums are exact in any order.
func operate(slot int, to instruments) {
	rng := rand.New(rand.NewPCG(uint64(slot), 17))
	odd := []string{"", "new\nline", `"`, "ü"}
	for range oracleOps {
		lvs := []string{strconv.Itoa(rng.IntN(oracleSeries)), odd[rng.IntN(len(odd))]}
		v := float64(rng.IntN(4096)) / 64
		switch rng.IntN(6) {
		case 0:
			to.counter(lvs...).Add(v)
		case 1:
			to.histogram(lvs...).Observe(v - 8)
		case 2:
			to.unbounded(lvs...).Observe(v - 8)
		case 3:
			to.summary(lvs...).Observe(v - 8)
		case 4:
			to.gauge(lvs...).Add(v - 8)
		case 5:
			mode := oracleModes[rng.IntN(len(oracleModes))]
			to.gaugeModes[mode](lvs...).Set(v - 32)
		}
	}
}

func oracleGauge(prefix string, mode worker.GaugeMode) prometheus.GaugeOpts {
	return prometheus.GaugeOpts{Name: prefix + "_gauge_" + mode.String(), Help: "g"}
}

// plainInstruments are client_golang's. The gauges that have a mode are in a registry of their own.
func plainInstruments(reg, modes prometheus.Registerer, prefix string) instruments {
	auto := promauto.With(reg)
	in := instruments{
		counter: auto.NewCounterVec(prometheus.CounterOpts{Name: prefix + "_total", Help: "\\ and\nline"}, oracleLabels).WithLabelValues,
		histogram: auto.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + "_histogram", Buckets: oracleBounds},
			oracleLabels).WithLabelValues,
		unbounded: auto.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + "_unbounded", Buckets: []float64{1e9}},
			oracleLabels).WithLabelValues,
		summary:    auto.NewSummaryVec(prometheus.SummaryOpts{Name: prefix + "_summary"}, oracleLabels).WithLabelValues,
		gauge:      auto.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + "_gauge"}, oracleLabels).WithLabelValues,
		gaugeModes: map[worker.GaugeMode]func(lvs ...string) prometheus.Gauge{},
	}
	for _, mode := range oracleModes {
		in.gaugeModes[mode] = promauto.With(modes).NewGaugeVec(oracleGauge(prefix, mode), oracleLabels).WithLabelValues
	}
	return in
}

func writeOracle(w *worker.Worker) error {
	const prefix = "made"
	counters := worker.NewCounterVec(prometheus.CounterOpts{Name: prefix + "_total", Help: "\\ and\nline"}, oracleLabels)
	gauges := worker.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + "_gauge"}, oracleLabels, worker.Sum)
	in := instruments{
		counter: func(lvs ...string) prometheus.Counter { return counters.WithLabelValues(lvs...) },
		histogram: worker.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + "_histogram", Buckets: oracleBounds},
			oracleLabels).WithLabelValues,
		unbounded: worker.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + "_unbounded", Buckets: []float64{1e9}},
			oracleLabels).WithLabelValues,
		summary:    worker.NewSummaryVec(prometheus.SummaryOpts{Name: prefix + "_summary"}, oracleLabels).WithLabelValues,
		gauge:      func(lvs ...string) prometheus.Gauge { return gauges.WithLabelValues(lvs...) },
		gaugeModes: map[worker.GaugeMode]func(lvs ...string) prometheus.Gauge{},
	}
	for _, mode := range oracleModes {
		v := worker.NewGaugeVec(oracleGauge(prefix, mode), oracleLabels, mode)
		in.gaugeModes[mode] = func(lvs ...string) prometheus.Gauge { return v.WithLabelValues(lvs...) }
	}
	operate(w.Slot(), in)

	slot := float64(w.Slot())
	worker.NewGaugeFunc(prometheus.GaugeOpts{Name: "func_gauge"}, worker.LiveSum, func() float64 { return slot })
	worker.NewCounterFunc(prometheus.CounterOpts{Name: "func_total"}, func() float64 { return slot + 0.5 })
	worker.NewUntypedFunc(prometheus.UntypedOpts{Name: "func_untyped"}, worker.Max, func() float64 { return slot })
	worker.NewInfo(prometheus.GaugeOpts{Name: "func_info"}, prometheus.Labels{"version": "1"})

	reg := prometheus.NewRegistry()
	operate(w.Slot(), plainInstruments(reg, reg, "exported"))
	_, err := worker.Export(reg, worker.ExportOptions{Mode: func(name string, _ dto.MetricType) worker.GaugeMode {
		for _, mode := range oracleModes {
			if name == oracleGauge("exported", mode).Name {
				return mode
			}
		}
		return worker.Sum
	}})
	return err
}

// setter remembers the value of a gauge that was set.
type setter struct {
	prometheus.Gauge
	set func(float64)
}

func (h setter) Set(v float64) { h.set(v) }

// oracle is what one registry has after all of them, and what is not there any more when all of them are dead.
func oracle(t *testing.T, dead bool) map[string]string {
	reg := prometheus.NewRegistry()
	auto := promauto.With(reg)
	for _, prefix := range []string{"made", "exported"} {
		in := plainInstruments(reg, prometheus.NewRegistry(), prefix)
		for mode := range in.gaugeModes {
			values := map[string][]float64{} // by series, in the order of slots
			labels := oracleLabels
			if mode.Base() == worker.All {
				labels = append(slices.Clone(labels), "worker")
			}
			gauge := auto.NewGaugeVec(oracleGauge(prefix, mode), labels).WithLabelValues
			for slot := range oracleWorkers {
				last := map[string]float64{}
				drop := func(...string) prometheus.Gauge { return setter{set: func(float64) {}} }
				sink := plainInstruments(prometheus.NewRegistry(), prometheus.NewRegistry(), prefix)
				for m := range sink.gaugeModes {
					sink.gaugeModes[m] = drop
				}
				sink.gaugeModes[mode] = func(lvs ...string) prometheus.Gauge {
					return setter{set: func(v float64) { last[strings.Join(lvs, "\xff")] = v }}
				}
				operate(slot, sink)
				for key, v := range last {
					values[key] = append(values[key], v)
					if mode.Base() == worker.All {
						gauge(append(strings.Split(key, "\xff"), strconv.Itoa(slot))...).Set(v)
					}
				}
			}
			for key, all := range values {
				sum := 0.0
				for _, v := range all {
					sum += v
				}
				switch lvs := strings.Split(key, "\xff"); mode.Base() {
				case worker.Sum:
					gauge(lvs...).Set(sum)
				case worker.Avg:
					gauge(lvs...).Set(sum / float64(len(all)))
				case worker.Min:
					gauge(lvs...).Set(slices.Min(all))
				case worker.Max:
					gauge(lvs...).Set(slices.Max(all))
				}
			}
			in.gaugeModes[mode] = func(...string) prometheus.Gauge { return setter{set: func(float64) {}} }
		}
		for slot := range oracleWorkers {
			operate(slot, in)
		}
	}
	auto.NewGauge(prometheus.GaugeOpts{Name: "func_gauge"}).Set(0 + 1 + 2 + 3)
	auto.NewCounter(prometheus.CounterOpts{Name: "func_total"}).Add(0.5 + 1.5 + 2.5 + 3.5)
	auto.NewUntypedFunc(prometheus.UntypedOpts{Name: "func_untyped"}, func() float64 { return 3 })
	auto.NewGauge(prometheus.GaugeOpts{Name: "func_info", ConstLabels: prometheus.Labels{"version": "1"}}).Set(1)
	all, err := reg.Gather()
	require.NoError(t, err)
	texts := map[string]string{}
	for _, mf := range all {
		live := strings.Contains(mf.GetName(), "_gauge_live") || mf.GetName() == "func_gauge" || mf.GetName() == "func_info"
		if !dead || !live {
			texts[mf.GetName()] = familyText(t, mf)
		}
	}
	return texts
}

// familyText is a family in an order that depends on nothing but its content.
func familyText(t *testing.T, mf *dto.MetricFamily) string {
	for _, m := range mf.Metric {
		slices.SortFunc(m.Label, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
	}
	slices.SortFunc(mf.Metric, func(a, b *dto.Metric) int { return strings.Compare(labelText(a), labelText(b)) })
	mf.Help = new(mf.GetHelp())
	var b strings.Builder
	_, err := expfmt.MetricFamilyToText(&b, mf)
	require.NoError(t, err)
	return b.String()
}

func TestWorkersAreOneRegistry(t *testing.T) {
	long(t)
	argv, env := asRole("oracle")
	s := startRun(t, env, oracleWorkers, []string{"--ready-settle", "0s"}, argv...)
	eventually(t, "all workers", func() bool { return len(s.workers()) == oracleWorkers })
	same := func(dead bool) {
		t.Helper()
		want := oracle(t, dead)
		var got map[string]string
		// Functions are called when a worker has said that it is ready.
		eventually(t, "the functions to be published", func() bool {
			got = map[string]string{}
			for name, mf := range mustScrape(t, s.metrics) {
				if !strings.HasPrefix(name, "onescrape_") {
					got[name] = familyText(t, mf)
				}
			}
			return got["func_total"] == want["func_total"] && got["func_gauge"] == want["func_gauge"]
		})
		require.Equal(t, len(want), len(got))
		for name := range want {
			theirs, ours := strings.Split(want[name], "\n"), strings.Split(got[name], "\n")
			require.Equal(t, len(theirs), len(ours), name)
			for i := range theirs {
				require.Equal(t, theirs[i], ours[i])
			}
		}
	}
	same(false)

	// Dead and folded, the same but for what lives with its worker; the store is served by somebody else then.
	pids := s.workers()
	s.signal(syscall.SIGKILL)
	s.wait()
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	addr := freeAddress(t)
	s.process = launch(t, exec.Command(onescrape, "serve", "--store.path", s.store, "--web.listen-address", addr))
	s.setMetrics(addr)
	eventually(t, "the store to be served without live workers", func() bool {
		f, err := scrape(s.metrics)
		return err == nil && f.sum("onescrape_store_files", "state", "live") == 0 && f.sum("onescrape_store_files", "state", "dead") == 0
	})
	same(true)
}
