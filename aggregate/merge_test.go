package aggregate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

func counterFamily(name string, labels ...string) shmstore.Family {
	return shmstore.Family{Name: name, Help: "Help of " + name + ".", Type: shmstore.CounterType, Labels: labels}
}

func gaugeFamily(name string, mode shmstore.GaugeMode, labels ...string) shmstore.Family {
	return shmstore.Family{Name: name, Help: "Help of " + name + ".", Type: shmstore.GaugeType, Mode: mode,
		Labels: labels}
}

func histogramFamily(name string, bounds []float64, labels ...string) shmstore.Family {
	return shmstore.Family{Name: name, Help: "Help of " + name + ".", Type: shmstore.HistogramType, Bounds: bounds,
		Labels: labels}
}

func summaryFamily(name string, labels ...string) shmstore.Family {
	return shmstore.Family{Name: name, Help: "Help of " + name + ".", Type: shmstore.SummaryType, Labels: labels}
}

// Many processes expose what one process with client_golang would have exposed, in the same order, byte for byte.
func TestMergeIsOneRegistry(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	labelNames := []string{"code", "föö.bar", "route"}
	labelValues := []string{"", "a", "b", "10", "9", "x\\y", "new\nline", `"quoted"`, "ü", "\u2028", " "}
	bounds := []float64{-1, 0, .5, 1, 2.5, 1e6}

	registry := prometheus.NewRegistry()
	counters := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total", Help: "With \\ and\nline."},
		labelNames)
	histograms := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "seconds", Buckets: bounds}, labelNames)
	summaries := prometheus.NewSummaryVec(prometheus.SummaryOpts{Name: "size.bytes", Help: "dots"}, labelNames)
	gauges := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "in_flight", Help: "h"}, labelNames)
	untyped := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "plain_total", Help: "no labels"}, nil)
	registry.MustRegister(counters, histograms, summaries, gauges, untyped)

	counterDef := shmstore.Family{Name: "requests_total", Help: "With \\ and\nline.", Type: shmstore.CounterType,
		Labels: labelNames}
	histogramDef := shmstore.Family{Name: "seconds", Type: shmstore.HistogramType, Labels: labelNames, Bounds: bounds}
	summaryDef := shmstore.Family{Name: "size.bytes", Help: "dots", Type: shmstore.SummaryType, Labels: labelNames}
	gaugeDef := shmstore.Family{Name: "in_flight", Help: "h", Type: shmstore.GaugeType, Mode: shmstore.Sum,
		Labels: labelNames}
	plainDef := shmstore.Family{Name: "plain_total", Help: "no labels", Type: shmstore.CounterType}

	dir := newDir(t)
	processes := make([]*local, 4)
	for i := range processes {
		processes[i] = startLocal(t, dir, i)
	}
	s := openStore(t, dir, Options{})
	held := map[string]float64{} // of the gauges, by process
	for round := range 20 {
		for range 200 {
			n := r.IntN(len(processes))
			p := processes[n]
			values := make([]string, len(labelNames))
			for j := range values {
				values[j] = labelValues[r.IntN(len(labelValues))]
			}
			v := float64(r.IntN(4000)) / 64 // sums of these are exact, client_golang's too
			signed := v - 20
			switch r.IntN(5) {
			case 0:
				counters.WithLabelValues(values...).Add(v)
				p.do(action{Do: "add", Family: counterDef, Values: values, V: v})
			case 1:
				histograms.WithLabelValues(values...).Observe(signed)
				p.do(action{Do: "observe", Family: histogramDef, Values: values, V: signed})
			case 2:
				summaries.WithLabelValues(values...).Observe(signed)
				p.do(action{Do: "observe", Family: summaryDef, Values: values, V: signed})
			case 3:
				key := fmt.Sprint(n, strings.Join(values, "\xff"))
				gauges.WithLabelValues(values...).Add(signed - held[key])
				held[key] = signed
				p.do(action{Do: "set", Family: gaugeDef, Values: values, V: signed})
			case 4:
				untyped.WithLabelValues().Inc()
				p.do(action{Do: "add", Family: plainDef, V: 1})
			}
		}
		require.Equal(t, users(t, registry), users(t, s), "round %d", round)
	}

	families, err := registry.Gather()
	require.NoError(t, err)
	var want strings.Builder
	for _, mf := range families {
		_, err := expfmt.MetricFamilyToText(&want, mf)
		require.NoError(t, err)
	}
	var got strings.Builder
	require.NoError(t, s.WriteText(&got, "requests_total", "seconds", "size.bytes", "in_flight", "plain_total",
		"nobody_has_it"))
	assert.Equal(t, want.String(), got.String())
}

func TestCounterIsExact(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	def := counterFamily("c_total")
	a, b, c := startLocal(t, dir, 0), startLocal(t, dir, 1), startLocal(t, dir, 2)
	a.do(action{Do: "make", Family: def})
	assert.Equal(t, "c_total 0\n", text(t, s))
	a.do(action{Do: "add", Family: def, V: .1}, action{Do: "add", Family: def, V: 3})
	b.do(action{Do: "add", Family: def, V: .2})
	c.do(action{Do: "add", Family: def, V: .3})
	assert.Equal(t, "c_total 3.6\n", text(t, s))
	// Whole numbers near 2^63 in each: no overflow, and not rounded before the fractions are in.
	for _, p := range []*local{a, b, c} {
		p.do(action{Do: "word", Family: def, Word: shmstore.CounterInteger, V: math.Float64frombits(1<<63 - 1)})
	}
	assert.Equal(t, "c_total 2.7670116110564327e+19\n", text(t, s))
}

func TestGaugeModes(t *testing.T) {
	nan := math.NaN()
	tests := map[string]struct {
		live, dead []float64 // set to
		want       map[shmstore.GaugeMode]string
	}{
		"live and dead": {
			live: []float64{3, 5}, dead: []float64{-7, 100},
			want: map[shmstore.GaugeMode]string{
				shmstore.Sum: "101", shmstore.LiveSum: "8", shmstore.Min: "-7", shmstore.LiveMin: "3",
				shmstore.Max: "100", shmstore.LiveMax: "5", shmstore.Avg: "25.25", shmstore.LiveAvg: "4",
				shmstore.MostRecent: "100", shmstore.LiveMostRecent: "5",
			},
		},
		"NaN": {
			live: []float64{nan, 2, nan}, dead: []float64{nan},
			want: map[shmstore.GaugeMode]string{
				shmstore.Sum: "NaN", shmstore.LiveSum: "NaN", shmstore.Min: "2", shmstore.LiveMin: "2",
				shmstore.Max:     "2",
				shmstore.LiveMax: "2", shmstore.Avg: "NaN", shmstore.MostRecent: "NaN", shmstore.LiveMostRecent: "NaN",
			},
		},
		"infinities": {
			live: []float64{math.Inf(1)}, dead: []float64{math.Inf(-1), 1},
			want: map[shmstore.GaugeMode]string{
				shmstore.Sum: "NaN", shmstore.LiveSum: "+Inf", shmstore.Min: "-Inf", shmstore.LiveMin: "+Inf",
				shmstore.Max: "+Inf", shmstore.Avg: "NaN", shmstore.LiveAvg: "+Inf",
			},
		},
		"zeros": {
			live: []float64{0, math.Copysign(0, -1)},
			want: map[shmstore.GaugeMode]string{shmstore.Sum: "0", shmstore.Min: "0", shmstore.Max: "0"},
		},
		"nobody set it": {
			want: map[shmstore.GaugeMode]string{
				shmstore.Sum: "0", shmstore.LiveSum: "0", shmstore.Min: "0", shmstore.LiveMin: "0", shmstore.Max: "0",
				shmstore.LiveMax: "0", shmstore.Avg: "0", shmstore.LiveAvg: "0", shmstore.MostRecent: "0",
				shmstore.LiveMostRecent: "0",
			},
		},
		"only the dead set it": {
			dead: []float64{4},
			want: map[shmstore.GaugeMode]string{shmstore.Avg: "4", shmstore.LiveAvg: "0", shmstore.Min: "4",
				shmstore.LiveMax: "0"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			s := openStore(t, dir, Options{})
			at := uint64(1)
			all := func(d doer, do string, v float64) {
				at++
				for mode := range test.want {
					for _, typ := range []shmstore.Type{shmstore.GaugeType, shmstore.UntypedType} {
						def := gaugeFamily(fmt.Sprintf("g_%s_%s", mode, typ), mode)
						def.Type = typ
						d.do(action{Do: do, Family: def, V: v, At: at})
					}
				}
			}
			all(startLocal(t, dir, 0), "make", 0) // has it and never sets it
			for i, v := range test.live {
				all(startLocal(t, dir, 1+i), "set", v)
			}
			for i, v := range test.dead {
				c := startChild(t, dir, 10+i)
				all(c, "set", v)
				c.killSeen(dir)
			}
			for mode, want := range test.want {
				for _, typ := range []string{"gauge", "untyped"} {
					name := fmt.Sprintf("g_%s_%s", mode, typ)
					assert.Equal(t, name+" "+want+"\n", text(t, s, name))
				}
			}
		})
	}
}

func TestLiveGaugeGoesWithTheLastProcess(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	c := startChild(t, dir, 0)
	for _, mode := range []shmstore.GaugeMode{shmstore.LiveSum, shmstore.LiveAll, shmstore.LiveMostRecent, shmstore.Sum} {
		c.do(action{Do: "set", Family: gaugeFamily(mode.String(), mode), V: 1})
	}
	assert.Equal(t, "liveall{worker=\"0\"} 1\nlivemostrecent 1\nlivesum 1\nsum 1\n", text(t, s))
	c.killSeen(dir)
	assert.Equal(t, "sum 1\n", text(t, s))
}

func TestGaugesOfEachSlot(t *testing.T) {
	all, live := gaugeFamily("all", shmstore.All, "z"), gaugeFamily("live", shmstore.LiveAll)
	set := func(v float64) []action {
		return []action{{Do: "set", Family: all, Values: []string{"x"}, V: v}, {Do: "set", Family: live, V: v}}
	}
	t.Run("newest that is ready", func(t *testing.T) {
		dir := newDir(t)
		s := openStore(t, dir, Options{})
		first := startChild(t, dir, 3)
		first.do(set(1)...)
		assert.Equal(t, "all{worker=\"3\",z=\"x\"} 1\nlive{worker=\"3\"} 1\n", text(t, s))
		second := startChild(t, dir, 3)
		second.do(set(2)...)
		assert.Equal(t, "all{worker=\"3\",z=\"x\"} 2\nlive{worker=\"3\"} 2\n", text(t, s), "none is ready: the newest")
		first.do(ready)
		assert.Equal(t, "all{worker=\"3\",z=\"x\"} 1\nlive{worker=\"3\"} 1\n", text(t, s))
		second.do(ready)
		assert.Equal(t, "all{worker=\"3\",z=\"x\"} 2\nlive{worker=\"3\"} 2\n", text(t, s))
		second.killSeen(dir)
		assert.Equal(t, "all{worker=\"3\",z=\"x\"} 2\nlive{worker=\"3\"} 1\n", text(t, s))
		other := startChild(t, dir, 12)
		other.do(set(4)...)
		assert.Equal(t,
			"all{worker=\"12\",z=\"x\"} 4\nall{worker=\"3\",z=\"x\"} 2\nlive{worker=\"12\"} 4\nlive{worker=\"3\"} 1\n", text(t, s))
	})
	t.Run("deleted by the newest", func(t *testing.T) {
		dir := newDir(t)
		s := openStore(t, dir, Options{})
		older, newer := startLocal(t, dir, 0), startLocal(t, dir, 0)
		older.do(set(1)...)
		newer.do(set(2)...)
		newer.do(action{Do: "delete", Family: live})
		assert.Equal(t, "all{worker=\"0\",z=\"x\"} 2\n", text(t, s))
		newer.do(action{Do: "set", Family: live, V: 5})
		assert.Equal(t, "all{worker=\"0\",z=\"x\"} 2\nlive{worker=\"0\"} 5\n", text(t, s))
	})
	t.Run("no slot", func(t *testing.T) {
		dir := newDir(t)
		s := openStore(t, dir, Options{})
		startLocal(t, dir, -1).do(set(1)...)
		startLocal(t, dir, -1).do(set(2)...)
		assert.Equal(t, "all{worker=\"none\",z=\"x\"} 2\nlive{worker=\"none\"} 2\n", text(t, s))
	})
	t.Run("the label's name is taken", func(t *testing.T) {
		dir := newDir(t)
		p := startLocal(t, dir, 7)
		p.do(action{Do: "set", Family: gaugeFamily("g", shmstore.All, "a", "worker"), Values: []string{"1", "joe"},
			V: 1},
			action{Do: "set", Family: gaugeFamily("h", shmstore.All, "onescrape_worker", "worker"),
				Values: []string{"1", "joe"}, V: 1})
		assert.Equal(t, "g{a=\"1\",onescrape_worker=\"7\",worker=\"joe\"} 1\n"+
			"h{onescrape_onescrape_worker=\"7\",onescrape_worker=\"1\",worker=\"joe\"} 1\n", text(t, openStore(t, dir,
			Options{})))
		assert.Equal(t, "g{a=\"1\",slot=\"7\",worker=\"joe\"} 1\n", text(t, openStore(t, dir, Options{Label: "slot"}),
			"g"))
	})
	t.Run("never set", func(t *testing.T) {
		dir := newDir(t)
		startLocal(t, dir, 0).do(action{Do: "make", Family: live})
		assert.Equal(t, "live{worker=\"0\"} 0\n", text(t, openStore(t, dir, Options{})))
	})
}

func TestCreatedIsTheOldest(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	defs := []shmstore.Family{counterFamily("a_total"), histogramFamily("b", []float64{1}), summaryFamily("c")}
	older, newer := startLocal(t, dir, 0), startLocal(t, dir, 1)
	for _, def := range defs {
		newer.do(action{Do: "make", Family: def})
	}
	before := gatherAll(t, s)
	for _, def := range defs {
		older.do(action{Do: "make", Family: def})
	}
	want := map[string]int64{}
	for _, def := range defs {
		want[def.Name] = newer.series[def.Key()+"\xff"].Created.UnixNano()
		require.GreaterOrEqual(t, older.series[def.Key()+"\xff"].Created.UnixNano(), want[def.Name])
	}
	for _, all := range []map[string]int64{created(before), created(gatherAll(t, s))} {
		assert.Equal(t, want, all)
	}
}
