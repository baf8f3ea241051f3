package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onescrape/onescrape/aggregate"
)

// mustExport exports g, and publishes only when it is asked to.
func mustExport(t testing.TB, r *registry, g prometheus.Gatherer, o ExportOptions) (stop func()) {
	o.Interval = 1 << 62
	stop, err := r.export(g, o)
	require.NoError(t, err)
	return stop
}

// source is a gatherer that has what a test says, in the text format.
type source struct {
	text string
	err  error
}

func (s *source) Gather() ([]*dto.MetricFamily, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	parsed, err := parser.TextToMetricFamilies(strings.NewReader(s.text))
	if err != nil {
		panic(err)
	}
	var families []*dto.MetricFamily
	for _, mf := range parsed {
		families = append(families, mf)
	}
	return families, s.err
}

// Each step is what the source has, and what the store shows then.
var exported = map[string][][2]string{
	"counter": {
		{"# TYPE c counter\nc{a=\"1\"} 3\nc{a=\"2\"} .1", "c{a=\"1\"} 3\nc{a=\"2\"} 0.1\n"},
		{"# TYPE c counter\nc{a=\"1\"} 4.5\nc{a=\"2\"} .3", "c{a=\"1\"} 4.5\nc{a=\"2\"} 0.3\n"},
		{"# TYPE c counter\nc{a=\"1\"} 1\nc{a=\"2\"} .3", "c{a=\"1\"} 4.5\nc{a=\"2\"} 0.3\n"},
		{"# TYPE c counter\nc{a=\"1\"} 2\nc{a=\"2\"} .3", "c{a=\"1\"} 5.5\nc{a=\"2\"} 0.3\n"},
		{"", "c{a=\"1\"} 5.5\nc{a=\"2\"} 0.3\n"}, // gone from its source it stays
		{"# TYPE c counter\nc{a=\"1\"} 2.5\nc{a=\"2\"} NaN", "c{a=\"1\"} 6\nc{a=\"2\"} 0.3\n"},
		{"# TYPE c counter\nc{a=\"1\"} +Inf\nc{a=\"2\"} -1", "c{a=\"1\"} 6\nc{a=\"2\"} 0.3\n"},
	},
	"gauge": {
		{"# TYPE g gauge\ng{a=\"1\"} 3\ng{a=\"2\"} -1", "g{a=\"1\"} 3\ng{a=\"2\"} -1\n"},
		{"# TYPE g gauge\ng{a=\"2\"} NaN", "g{a=\"2\"} NaN\n"},
		{"# TYPE g gauge\ng{a=\"1\"} 0\ng{a=\"2\"} +Inf", "g{a=\"1\"} 0\ng{a=\"2\"} +Inf\n"},
		{"", ""},
		{"# TYPE g gauge\ng{a=\"1\"} 7", "g{a=\"1\"} 7\n"},
	},
	"untyped": {
		{"u 3", "u 3\n"},
		{"u -2", "u -2\n"},
		{"", ""},
	},
	"histogram": {
		{"# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"2\"} 3\nh_bucket{le=\"+Inf\"} 5\nh_sum 9.5\nh_count 5",
			"h_bucket{le=\"1\"} 2\nh_bucket{le=\"2\"} 3\nh_bucket{le=\"+Inf\"} 5\nh_sum 9.5\nh_count 5\n"},
		// It begins anew.
		{"# TYPE h histogram\nh_bucket{le=\"1\"} 0\nh_bucket{le=\"2\"} 0\nh_bucket{le=\"+Inf\"} 0\nh_sum 0\nh_count 0",
			"h_bucket{le=\"1\"} 2\nh_bucket{le=\"2\"} 3\nh_bucket{le=\"+Inf\"} 5\nh_sum 9.5\nh_count 5\n"},
		{"# TYPE h histogram\nh_bucket{le=\"1\"} 0\nh_bucket{le=\"2\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 2\nh_count 1",
			"h_bucket{le=\"1\"} 2\nh_bucket{le=\"2\"} 4\nh_bucket{le=\"+Inf\"} 6\nh_sum 11.5\nh_count 6\n"},
		// Another bound takes part in the one above it, a count without buckets in the last.
		{"# TYPE h histogram\nh_bucket{le=\"1.5\"} 2\nh_bucket{le=\"3\"} 3\nh_bucket{le=\"+Inf\"} 4\nh_sum 3\nh_count 4",
			"h_bucket{le=\"1\"} 2\nh_bucket{le=\"2\"} 5\nh_bucket{le=\"+Inf\"} 9\nh_sum 12.5\nh_count 9\n"},
		{"# TYPE h histogram\nh_sum 30\nh_count 8",
			"h_bucket{le=\"1\"} 2\nh_bucket{le=\"2\"} 5\nh_bucket{le=\"+Inf\"} 15\nh_sum 12.5\nh_count 15\n"},
	},
	"histograms of one family with other buckets": {
		{"# TYPE h histogram\nh_bucket{a=\"x\",le=\"1\"} 2\nh_count{a=\"x\"} 3\nh_bucket{a=\"y\",le=\"2\"} 4\nh_count{a=\"y\"} 5",
			"h_bucket{a=\"x\",le=\"1\"} 2\nh_bucket{a=\"x\",le=\"2\"} 2\nh_bucket{a=\"x\",le=\"+Inf\"} 3\nh_sum{a=\"x\"} 0\nh_count{a=\"x\"} 3\n" +
				"h_bucket{a=\"y\",le=\"1\"} 0\nh_bucket{a=\"y\",le=\"2\"} 4\nh_bucket{a=\"y\",le=\"+Inf\"} 5\nh_sum{a=\"y\"} 0\nh_count{a=\"y\"} 5\n"},
	},
	"summary": {
		{"# TYPE s summary\ns{quantile=\"0.5\"} 3\ns{quantile=\"1\"} 7\ns_sum -1\ns_count 2",
			"s{quantile=\"0.5\"} 3\ns{quantile=\"1\"} 7\ns_sum -1\ns_count 2\n"},
		{"# TYPE s summary\ns{quantile=\"0.5\"} NaN\ns{quantile=\"0.99\"} 1\ns_sum 0\ns_count 0",
			"s{quantile=\"0.5\"} NaN\ns{quantile=\"0.99\"} 1\ns_sum -1\ns_count 2\n"},
		{"# TYPE s summary\ns_sum 2\ns_count 1", "s_sum 1\ns_count 3\n"},
		{"", "s_sum 1\ns_count 3\n"},
	},
	"summaries with labels": {
		{"# TYPE s summary\ns{a=\"x\",z=\"\",quantile=\"0\"} 3\ns_sum{a=\"x\",z=\"\"} 1\ns_count{a=\"x\",z=\"\"} 2\ns_count{a=\"y\",z=\"\"} 9",
			"s{a=\"x\",z=\"\",quantile=\"0\"} 3\ns_sum{a=\"x\",z=\"\"} 1\ns_count{a=\"x\",z=\"\"} 2\ns_sum{a=\"y\",z=\"\"} 0\ns_count{a=\"y\",z=\"\"} 9\n"},
		{"# TYPE s summary\ns{a=\"y\",z=\"\",quantile=\"0\"} 4\ns_count{a=\"y\",z=\"\"} 10",
			"s_sum{a=\"x\",z=\"\"} 1\ns_count{a=\"x\",z=\"\"} 2\ns{a=\"y\",z=\"\",quantile=\"0\"} 4\ns_sum{a=\"y\",z=\"\"} 0\ns_count{a=\"y\",z=\"\"} 10\n"},
	},
	"labels that change": {
		{"# TYPE g gauge\ng{a=\"1\"} 3", "g{a=\"1\"} 3\n"},
		{"# TYPE g gauge\ng{b=\"1\"} 4\ng{a=\"1\",b=\"2\"} 5", "g{b=\"1\"} 4\ng{a=\"1\",b=\"2\"} 5\n"},
		{"# TYPE g gauge\ng 6", "g 6\n"},
	},
	"type that changes": {
		{"# TYPE m gauge\nm 3\n# TYPE n counter\nn 4", "m 3\nn 4\n"},
		{"# TYPE m counter\nm 9\n# TYPE n gauge\nn 1", "n 4\n"},
		{"# TYPE m gauge\nm 5\n# TYPE n counter\nn 6", "m 5\nn 6\n"},
	},
	"order that changes": {
		{"# TYPE c counter\nc{a=\"1\"} 1\nc{a=\"2\"} 2\nc{a=\"3\"} 3", "c{a=\"1\"} 1\nc{a=\"2\"} 2\nc{a=\"3\"} 3\n"},
		{"# TYPE c counter\nc{a=\"3\"} 4\nc{a=\"1\"} 2", "c{a=\"1\"} 2\nc{a=\"2\"} 2\nc{a=\"3\"} 4\n"},
		{"# TYPE c counter\nc{a=\"0\"} 4\nc{a=\"2\"} 3\nc{a=\"3\"} 5", "c{a=\"0\"} 4\nc{a=\"1\"} 2\nc{a=\"2\"} 3\nc{a=\"3\"} 5\n"},
	},
}

func TestExport(t *testing.T) {
	for name, steps := range exported {
		t.Run(name, func(t *testing.T) {
			r := inStore(t)
			s := storeOf(t, r)
			from := &source{}
			mustExport(t, r, from, ExportOptions{})
			for _, step := range steps {
				from.text = step[0] + "\n"
				publishNow(r)
				require.Equal(t, step[1], sampled(t, s), step[0])
			}
			// What is published moves with the process.
			last := sampled(t, s)
			require.NoError(t, r.detach())
			require.NoError(t, r.open(storeDir(t), 0))
			publishNow(r)
			require.Equal(t, last, sampled(t, storeOf(t, r)))
		})
	}
}

// metricsOf has every kind of family in ways that no exposition can have.
func metricsOf() []*dto.MetricFamily {
	pair := func(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }
	gauge := func(v float64, labels ...*dto.LabelPair) *dto.Metric {
		return &dto.Metric{Label: labels, Gauge: &dto.Gauge{Value: &v}}
	}
	family := func(name string, typ dto.MetricType, metrics ...*dto.Metric) *dto.MetricFamily {
		return &dto.MetricFamily{Name: &name, Type: &typ, Metric: metrics}
	}
	long := strings.Repeat("x", 2<<20)
	var bounds []*dto.Bucket
	for i := range 5000 {
		bounds = append(bounds, &dto.Bucket{UpperBound: new(float64(i)), CumulativeCount: new(uint64(i))})
	}
	var many []*dto.LabelPair
	for i := range 300 {
		many = append(many, pair(fmt.Sprint("l", i), ""))
	}
	return []*dto.MetricFamily{
		nil,
		{},
		family("", dto.MetricType_GAUGE, gauge(1)),
		family("\xff", dto.MetricType_GAUGE, gauge(1)),
		family("untyped_gauge", dto.MetricType(99), gauge(1)),
		family("gauge_histogram", dto.MetricType_GAUGE_HISTOGRAM, gauge(1)),
		family("empty", dto.MetricType_HISTOGRAM),
		family("without_values", dto.MetricType_COUNTER, nil, &dto.Metric{}, gauge(1, pair("a", "b"))),
		family("without_gauge", dto.MetricType_GAUGE, nil, &dto.Metric{}),
		family("without_untyped", dto.MetricType_UNTYPED, nil, &dto.Metric{}),
		family("without_summary", dto.MetricType_SUMMARY, nil, &dto.Metric{}),
		family("without_histogram", dto.MetricType_HISTOGRAM, nil, &dto.Metric{}),
		family("twice", dto.MetricType_GAUGE, gauge(1), gauge(2)),
		family("twice", dto.MetricType_GAUGE, gauge(3)),
		family("labels", dto.MetricType_GAUGE, gauge(1, pair("", "")), gauge(1, pair("__a", "")), gauge(1, pair("\xff", "")),
			gauge(1, pair("a", "\xff")), gauge(1, pair("a", "1"), pair("a", "1")), gauge(1, nil), gauge(1, pair("b", "1"), pair("a", "1")),
			gauge(1, pair("a", long)), gauge(1, many...)),
		family("le", dto.MetricType_HISTOGRAM, &dto.Metric{Label: []*dto.LabelPair{pair("le", "1")}, Histogram: &dto.Histogram{}}),
		family("quantile", dto.MetricType_SUMMARY, &dto.Metric{Label: []*dto.LabelPair{pair("quantile", "1")}, Summary: &dto.Summary{}}),
		family("odd_buckets", dto.MetricType_HISTOGRAM, &dto.Metric{Histogram: &dto.Histogram{
			SampleCount: new(uint64(3)), SampleSum: new(math.NaN()), Bucket: []*dto.Bucket{nil,
				{UpperBound: new(2.0), CumulativeCount: new(uint64(9))}, {UpperBound: new(1.0), CumulativeCount: new(uint64(4))},
				{UpperBound: new(math.NaN()), CumulativeCount: new(uint64(10))}, {UpperBound: new(math.Inf(1)), CumulativeCount: new(uint64(math.MaxUint64))}}}}),
		family("many_buckets", dto.MetricType_HISTOGRAM, &dto.Metric{Histogram: &dto.Histogram{SampleCount: new(uint64(5000)), Bucket: bounds}}),
		family("odd_quantiles", dto.MetricType_SUMMARY, &dto.Metric{Summary: &dto.Summary{Quantile: []*dto.Quantile{nil,
			{Quantile: new(0.5), Value: new(1.0)}, {Quantile: new(0.5), Value: new(2.0)}, {Quantile: new(math.NaN())}, {Quantile: new(7.0)}}}}),
		{Name: new("odd_help"), Help: new("\xff" + long), Unit: &long, Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{gauge(1)}},
	}
}

// Whatever a gatherer has, the rest is published, what is left out is said once, and the scrape is one that can be read.
func TestExportOfWhatCannotBe(t *testing.T) {
	for _, p := range places {
		r := p.make(t)
		log := r.logTo()
		mustExport(t, r, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return metricsOf(), nil }), ExportOptions{})
		publishNow(r)
		before := log.String()
		publishNow(r)
		publishNow(r)
		require.Equal(t, before, log.String())
		if p.name == "memory" {
			_, err := gatherer{r}.Gather()
			require.NoError(t, err)
			continue
		}
		require.Contains(t, before, "a metric is not exported")
		families := map[string]*dto.MetricFamily{}
		all, err := gatherer{r}.Gather()
		require.NoError(t, err)
		for _, mf := range all {
			families[mf.GetName()] = mf
		}
		require.Len(t, families["labels"].GetMetric(), 1)
		require.Len(t, families["twice"].GetMetric(), 1)
		require.Len(t, families["many_buckets"].GetMetric()[0].GetHistogram().GetBucket(), 625)
		require.EqualValues(t, 5000, families["many_buckets"].GetMetric()[0].GetHistogram().GetSampleCount())
		require.NotNil(t, families["odd_help"])
		var text strings.Builder
		require.NoError(t, storeOf(t, r).WriteText(&text))
		parser := expfmt.NewTextParser(model.UTF8Validation)
		_, err = parser.TextToMetricFamilies(strings.NewReader(text.String()))
		require.NoError(t, err)
		_, s := state(t, r)
		require.Equal(t, 2, s.Overflow, "a value that is too long, and too many labels")
	}
}

func TestExportOfErrors(t *testing.T) {
	r := inStore(t)
	log := r.logTo()
	s := storeOf(t, r)
	from := &source{text: "# TYPE a gauge\na 1\n# TYPE b gauge\nb 2\n"}
	mustExport(t, r, from, ExportOptions{})
	from.text, from.err = "# TYPE a gauge\na 3\n", errors.New("b cannot be had")
	publishNow(r)
	publishNow(r)
	require.Equal(t, "a 3\nb 2\n", sampled(t, s), "what is missing may be there")
	require.Equal(t, 1, strings.Count(log.String(), "b cannot be had"), log)
	from.err = nil
	publishNow(r)
	require.Equal(t, "a 3\n", sampled(t, s))
	from.text = "{" // which panics
	publishNow(r)
	require.Equal(t, "a 3\n", sampled(t, s))

	for reason, g := range map[string]prometheus.Gatherer{
		"no gatherer":        nil,
		"merged metrics":     gatherer{r},
		"the merged metrics": prometheus.Gatherers{from, storeOf(t, r)},
		"exported already":   from,
	} {
		stop, err := r.export(g, ExportOptions{})
		require.ErrorContains(t, err, reason)
		stop()
	}
	_, err := r.export(&source{}, ExportOptions{Interval: -1})
	require.ErrorContains(t, err, "an interval of -1ns")
}

func TestExportSkipsWhatIsCountedAlready(t *testing.T) {
	for _, p := range places {
		r := p.make(t)
		log := r.logTo()
		r.newCounter(prometheus.CounterOpts{Name: "ours_total"}).Add(1)
		r.newGaugeVec(prometheus.GaugeOpts{Name: "ours_too"}, []string{"a"}, Sum)
		text := "# TYPE ours_total counter\nours_total 5\n# TYPE ours_too gauge\nours_too 5\n" +
			"# TYPE both counter\nboth 7\n# TYPE later gauge\nlater 1\n# TYPE hidden gauge\nhidden 1\n"
		hide := ExportOptions{Skip: func(name string) bool { return name == "hidden" }}
		mustExport(t, r, &source{text: text}, hide)
		shows := func(want string) {
			t.Helper()
			publishNow(r)
			require.Equal(t, want, strings.Join(samplesOf(onescrape("", r).text(t)), ""))
		}
		shows("both 7\nlater 1\nours_total 1\n")
		mustExport(t, r, &source{text: "# TYPE both counter\nboth 40\n# TYPE more gauge\nmore 1\n"}, ExportOptions{})
		shows("both 7\nlater 1\nmore 1\nours_total 1\n")
		require.Equal(t, 1, strings.Count(log.String(), "another gatherer"), log)
		require.Equal(t, 2, strings.Count(log.String(), "from package worker"), log)
		r.newGauge(prometheus.GaugeOpts{Name: "later"}, Max).Set(9)
		shows("both 7\nlater 9\nmore 1\nours_total 1\n")
		require.Equal(t, 3, strings.Count(log.String(), "from package worker"), log)
	}
}

func samplesOf(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestExportStopsAndGoesOn(t *testing.T) {
	r := inStore(t)
	s := storeOf(t, r)
	from := &source{text: "# TYPE c counter\nc 1\n# TYPE g gauge\ng 1\n"}
	stop := mustExport(t, r, from, ExportOptions{})
	require.Equal(t, "c 1\ng 1\n", sampled(t, s), "published at once")
	from.text = "# TYPE c counter\nc 2\n# TYPE g gauge\ng 2\n"
	stop()
	require.Equal(t, "c 2\ng 2\n", sampled(t, s), "and once more")
	from.text = "# TYPE c counter\nc 5\n# TYPE g gauge\ng 5\n"
	stop()
	publishNow(r)
	require.Equal(t, "c 2\ng 2\n", sampled(t, s))
	mustExport(t, r, from, ExportOptions{})
	require.Equal(t, "c 5\ng 5\n", sampled(t, s))
}

// It publishes by itself, at its interval and when the process is ready.
func TestExportPublishes(t *testing.T) {
	r := inStore(t)
	s := storeOf(t, r)
	reg := prometheus.NewRegistry()
	c := promauto.With(reg).NewCounter(prometheus.CounterOpts{Name: "c_total"})
	stop, err := r.export(reg, ExportOptions{Interval: 1})
	require.NoError(t, err)
	defer stop()
	for n := range 3 {
		c.Inc()
		require.Eventually(t, func() bool { return sampled(t, s) == fmt.Sprintf("c_total %d\n", n+1) }, longWait, tick)
	}
	stop()
	mustExport(t, r, reg, ExportOptions{})
	c.Inc()
	r.storeReady()
	require.Eventually(t, func() bool { return sampled(t, s) == "c_total 4\n" }, longWait, tick)
}

// What a package exports for the program leaves the last word to the program.
func TestExportImplied(t *testing.T) {
	r := inStore(t)
	s := storeOf(t, r)
	from := &source{text: "# TYPE g gauge\ng 1\n"}
	r.exportImplied(from)
	require.Empty(t, sampled(t, s), "not at once: the program may have something to say about it")
	r.exportImplied(from) // does nothing
	stop := mustExport(t, r, from, ExportOptions{Mode: func(string, dto.MetricType) GaugeMode { return All }})
	require.Equal(t, "g{worker=\"0\"} 1\n", sampled(t, s), "with the program's options")
	_, err := r.export(from, ExportOptions{})
	require.ErrorContains(t, err, "exported already")
	stop()
	from.text = "# TYPE g gauge\ng 2\n"
	publishNow(r)
	require.Equal(t, "g{worker=\"0\"} 1\n", sampled(t, s), "nobody publishes it any more")

	other := &source{text: "# TYPE c counter\nc 1\n"}
	r.exportImplied(other)
	r.storeReady()
	require.Eventually(t, func() bool { return strings.Contains(sampled(t, s), "c 1\n") }, longWait, tick)
	r.exportImplied(from)
	publishNow(r)
	require.Contains(t, sampled(t, s), "g{worker=\"0\"} 2\n", "stopped by the program, it may be exported again")
}

// A collector that hangs does not keep the process from its end.
func TestLastPublishingIsBounded(t *testing.T) {
	r := inStore(t)
	log := r.logTo()
	hang := make(chan struct{})
	n := 0
	mustExport(t, r, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		if n++; n > 1 {
			<-hang
		}
		return nil, nil
	}), ExportOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r.publishLast(ctx)
	require.Contains(t, log.String(), "reading them took too long")
	close(hang)
}

func TestExportModes(t *testing.T) {
	one, other := inMemory(t), inMemory(t)
	path := storeDir(t)
	require.NoError(t, one.open(path, 0))
	require.NoError(t, other.open(path, 1))
	text := func(v float64) *source {
		var b strings.Builder
		for _, name := range []string{"other", "go_info", "app_info", "go_gc_gomemlimit_bytes", "last_success_timestamp_seconds",
			"hit_ratio", "process_max_fds", "process_start_time_seconds", "mine", "mine_recent"} {
			fmt.Fprintf(&b, "# TYPE %s gauge\n%s %v\n", name, name, v)
		}
		fmt.Fprintf(&b, "# TYPE process_network_receive_bytes_total counter\nprocess_network_receive_bytes_total %v\n", 100*v)
		fmt.Fprintf(&b, "nobody_knows %v\n", v)
		return &source{text: b.String()}
	}
	o := ExportOptions{Mode: func(name string, typ dto.MetricType) GaugeMode {
		switch name {
		case "mine":
			return All
		case "mine_recent":
			return MostRecent
		case "other":
			return 77
		}
		return 0
	}}
	first, second := text(3), text(5)
	mustExport(t, one, first, o)
	mustExport(t, other, second, o)
	publishNow(one) // the same value again is not a more recent one
	s := storeOf(t, one)
	require.Equal(t, `app_info 5
go_gc_gomemlimit_bytes 5
go_info 5
hit_ratio 4
last_success_timestamp_seconds 5
mine{worker="0"} 3
mine{worker="1"} 5
mine_recent 5
nobody_knows 8
other 8
process_max_fds 5
process_network_receive_bytes_total 500
process_start_time_seconds 3
`, sampled(t, s))
	first.text = strings.ReplaceAll(first.text, "recent 3", "recent 4")
	publishNow(one)
	require.Equal(t, "mine_recent 4\n", sampled(t, s, "mine_recent"))
}

// Every family that client_golang's collectors have is one that the table was made for.
func TestModesOfTheStandardCollectors(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsAll)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector())
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, mf := range families {
		if mf.GetType() != dto.MetricType_GAUGE {
			continue
		}
		mode := DefaultExportMode(mf.GetName())
		adds := mode == LiveSum
		name := mf.GetName()
		amount := strings.HasPrefix(name, "go_memstats_") || strings.HasPrefix(name, "go_memory_classes_") ||
			strings.HasPrefix(name, "go_sched_") || strings.HasPrefix(name, "go_gc_heap_") || strings.HasPrefix(name, "go_gc_scan_") ||
			name == "go_goroutines" || name == "go_threads" || name == "process_open_fds" ||
			name == "process_resident_memory_bytes" || name == "process_virtual_memory_bytes"
		require.Equal(t, amount && name != "go_memstats_last_gc_time_seconds", adds, name)
		require.True(t, mode.Live(), name)
	}
}

// One registry of client_golang and its metrics, and the same operations in several that are exported, each by a process
// of its own as far as the store can tell, are the same scrape.
func TestExportIsOneRegistry(t *testing.T) {
	type app struct {
		reg        *prometheus.Registry
		counters   *prometheus.CounterVec
		gauges     *prometheus.GaugeVec
		histograms *prometheus.HistogramVec
		summaries  *prometheus.SummaryVec
		r          *registry
	}
	newApp := func() app {
		reg := prometheus.NewPedanticRegistry()
		auto := promauto.With(reg)
		labels := []string{"a", "ü.b"}
		return app{reg: reg,
			counters:   auto.NewCounterVec(prometheus.CounterOpts{Name: "c_total", Help: "\\ and\nline"}, labels),
			gauges:     auto.NewGaugeVec(prometheus.GaugeOpts{Name: "g", ConstLabels: prometheus.Labels{"k": "v"}}, labels),
			histograms: auto.NewHistogramVec(prometheus.HistogramOpts{Name: "h", Buckets: []float64{-1, 0, .5, 10}}, labels),
			summaries:  auto.NewSummaryVec(prometheus.SummaryOpts{Name: "s", Help: "h"}, labels),
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	one := newApp()
	path := storeDir(t)
	var all []app
	for slot := range 4 {
		a := newApp()
		a.r = inMemory(t)
		require.NoError(t, a.r.open(path, slot))
		mustExport(t, a.r, a.reg, ExportOptions{})
		all = append(all, a)
	}
	values := []string{"", "x", "10", "9", "new\nline", `"`, "ü"}
	for range 20 {
		for range 300 {
			to := all[r.IntN(len(all))]
			lvs := []string{values[r.IntN(len(values))], values[r.IntN(len(values))]}
			v := float64(r.IntN(1000)-200) / 64 // sums of these are exact, client_golang's too
			for _, a := range []app{one, to} {
				switch {
				case v > 8:
					a.counters.WithLabelValues(lvs...).Add(v)
				case v > 5:
					a.gauges.WithLabelValues(lvs...).Sub(v)
				case v > 0:
					a.histograms.WithLabelValues(lvs...).Observe(v - 1)
				default:
					a.summaries.WithLabelValues(lvs...).Observe(v)
				}
			}
		}
		for _, a := range all {
			publishNow(a.r)
		}
		require.Equal(t, library{Gatherer: one.reg}.text(t), onescrape("", all[0].r).text(t))
	}
}

// Native buckets add up, through all that client_golang does to them, and move with the process.
func TestExportOfNativeHistograms(t *testing.T) {
	type app struct {
		reg   *prometheus.Registry
		h, hb prometheus.Histogram
	}
	newApp := func(limit uint32) app {
		reg := prometheus.NewRegistry()
		opts := prometheus.HistogramOpts{Name: "h", NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: limit,
			NativeHistogramMaxZeroThreshold: 0.01}
		both := opts
		both.Name, both.Buckets = "hb", []float64{-1, 0.5, 10}
		return app{reg, promauto.With(reg).NewHistogram(opts), promauto.With(reg).NewHistogram(both)}
	}
	histograms := func(g prometheus.Gatherer) (out []string, counts []uint64) {
		all, err := g.Gather()
		require.NoError(t, err)
		for _, mf := range all {
			if mf.GetType() == dto.MetricType_HISTOGRAM {
				h := mf.GetMetric()[0].GetHistogram()
				h.CreatedTimestamp = nil
				out, counts = append(out, mf.GetName()+h.String()), append(counts, h.GetSampleCount())
			}
		}
		return out, counts
	}
	rng := rand.New(rand.NewPCG(1, 9))
	one, a, b := newApp(0), newApp(0), newApp(0)
	path := storeDir(t)
	var rs []*registry
	for slot, x := range []app{a, b} {
		r := inMemory(t)
		require.NoError(t, r.open(path, slot))
		mustExport(t, r, x.reg, ExportOptions{})
		rs = append(rs, r)
	}
	for range 10 {
		for range 300 {
			v := float64(rng.IntN(1<<12)-1<<11) / 128
			to := []app{a, b}[rng.IntN(2)]
			for _, h := range []prometheus.Histogram{one.h, one.hb, to.h, to.hb} {
				h.Observe(v)
			}
		}
		for _, r := range rs {
			publishNow(r)
		}
		want, _ := histograms(one.reg)
		got, _ := histograms(gatherer{rs[0]})
		require.Equal(t, len(want), len(got))
		for i := range want {
			require.Equal(t, want[i], got[i])
		}
	}
	want, _ := histograms(one.reg)
	for i, r := range rs {
		require.NoError(t, r.detach())
		if i == 0 {
			path = storeDir(t)
		}
		require.NoError(t, r.open(path, i))
		publishNow(r)
	}
	got, _ := histograms(gatherer{rs[0]})
	require.Equal(t, want, got)

	// A source that makes its buckets coarser, widens its zero bucket or is without them for a while loses no count.
	r, x := inStore(t), newApp(8)
	mustExport(t, r, x.reg, ExportOptions{})
	n := uint64(0)
	for range 60 {
		for range 50 {
			v := math.Exp(rng.NormFloat64() * 6)
			x.h.Observe(v)
			x.hb.Observe(-v)
			n++
		}
		publishNow(r)
		_, counts := histograms(gatherer{r})
		require.Equal(t, []uint64{n, n}, counts)
	}
	x.h.Observe(math.NaN())
	x.h.Observe(math.Inf(1))
	publishNow(r)
	_, counts := histograms(gatherer{r})
	require.Equal(t, n+2, counts[0])
}

func TestExportOfNativeBucketsThatCannotBe(t *testing.T) {
	span := func(offset int32, length uint32) *dto.BucketSpan {
		return &dto.BucketSpan{Offset: &offset, Length: &length}
	}
	family := func(h *dto.Histogram) []*dto.MetricFamily {
		return []*dto.MetricFamily{{Name: new("h"), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{Histogram: h}}}}
	}
	for name, h := range map[string]*dto.Histogram{
		"schema of custom buckets": {Schema: new(int32(-53)), PositiveSpan: []*dto.BucketSpan{span(0, 1)}, PositiveDelta: []int64{1}},
		"too few deltas":           {Schema: new(int32(3)), PositiveSpan: []*dto.BucketSpan{span(0, 1<<31)}, PositiveDelta: []int64{1}},
		"a bucket of no float64":   {Schema: new(int32(3)), NegativeSpan: []*dto.BucketSpan{span(math.MaxInt32, 2), nil, span(math.MaxInt32, 1)}, NegativeDelta: []int64{1, 1, 1}},
		"negative count":           {Schema: new(int32(3)), PositiveSpan: []*dto.BucketSpan{span(0, 1)}, PositiveDelta: []int64{-1}},
		"odd threshold":            {Schema: new(int32(3)), ZeroThreshold: new(math.NaN())},
		"more than the count":      {Schema: new(int32(3)), ZeroCount: new(uint64(math.MaxUint64))},
	} {
		r := inStore(t)
		h.SampleCount = new(uint64(5))
		good := &dto.Histogram{Schema: new(int32(3)), SampleCount: new(uint64(2)), ZeroCount: new(uint64(2))}
		current := good
		mustExport(t, r, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return family(current), nil }), ExportOptions{})
		current = h
		publishNow(r)
		publishNow(r)
		_, err := gatherer{r}.Gather()
		require.NoError(t, err, name)
		other := inStore(t)
		mustExport(t, other, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return family(h), nil }), ExportOptions{})
		_, err = gatherer{other}.Gather()
		require.NoError(t, err, name)
	}
}

// Exemplars come along, to the bucket that their value is in, and move with the process; what can be none is left out.
func TestExportOfExemplars(t *testing.T) {
	r := inStore(t)
	log := r.logTo()
	reg := prometheus.NewRegistry()
	c := promauto.With(reg).NewCounter(prometheus.CounterOpts{Name: "c_total"})
	h := promauto.With(reg).NewHistogram(prometheus.HistogramOpts{Name: "h", Buckets: []float64{1, 2}})
	mustExport(t, r, prometheus.Gatherers{reg, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		bad := &dto.Exemplar{Label: []*dto.LabelPair{{Name: new("__a"), Value: new("\xff")}}, Value: new(1.0), Timestamp: timestamppb.Now()}
		return []*dto.MetricFamily{{Name: new("odd"), Type: dto.MetricType_COUNTER.Enum(), Metric: []*dto.Metric{
			{Counter: &dto.Counter{Value: new(1.0), Exemplar: bad}},
			{Label: []*dto.LabelPair{{Name: new("a"), Value: new("b")}}, Counter: &dto.Counter{Value: new(1.0),
				Exemplar: &dto.Exemplar{Value: new(1.0)}}},
		}}}, nil
	})}, ExportOptions{})
	expect := func(id string) {
		t.Helper()
		publishNow(r)
		all, err := gatherer{r}.Gather()
		require.NoError(t, err)
		for _, mf := range all {
			switch m := mf.GetMetric()[0]; mf.GetName() {
			case "c_total":
				require.Equal(t, id, m.GetCounter().GetExemplar().GetLabel()[0].GetValue())
				require.Equal(t, 2.0, m.GetCounter().GetExemplar().GetValue())
			case "h":
				buckets := m.GetHistogram().GetBucket()
				require.Len(t, buckets, 3)
				require.Nil(t, buckets[0].GetExemplar())
				require.Equal(t, 1.5, buckets[1].GetExemplar().GetValue())
				require.Equal(t, "trace", buckets[1].GetExemplar().GetLabel()[1].GetName())
				require.Equal(t, 7.0, buckets[2].GetExemplar().GetValue())
			case "odd":
				require.Nil(t, m.GetCounter().GetExemplar())
			}
		}
	}
	for _, id := range []string{"1", strings.Repeat("2", 20), strings.Repeat("3", 120)} {
		c.(prometheus.ExemplarAdder).AddWithExemplar(2, prometheus.Labels{"trace": id})
		h.(prometheus.ExemplarObserver).ObserveWithExemplar(1.5, prometheus.Labels{"trace": "x", "span": "y"})
		h.(prometheus.ExemplarObserver).ObserveWithExemplar(7, prometheus.Labels{"trace": "x"})
		expect(id)
		expect(id)
	}
	require.NoError(t, r.detach())
	require.NoError(t, r.open(storeDir(t), 0))
	expect(strings.Repeat("3", 120))
	require.Equal(t, 1, strings.Count(log.String(), "an exemplar has labels"), log)
}

// Without a store the exported families are as they are, beside the program's own.
func TestExportWithoutStore(t *testing.T) {
	r := inMemory(t)
	r.newCounter(prometheus.CounterOpts{Name: "m_total"}).Inc()
	reg := prometheus.NewRegistry()
	promauto.With(reg).NewGauge(prometheus.GaugeOpts{Name: "a"}).Set(2)
	promauto.With(reg).NewSummary(prometheus.SummaryOpts{Name: "z", Objectives: map[float64]float64{.5: .1}}).Observe(7)
	stop := mustExport(t, r, reg, ExportOptions{})
	want := "a 2\nm_total 1\nz{quantile=\"0.5\"} 7\nz_sum 7\nz_count 1\n"
	require.Equal(t, want, strings.Join(samplesOf(onescrape("", r).text(t)), ""))
	require.Equal(t, want, strings.Join(samplesOf(get(r.handler(aggregate.HandlerOptions{}), "/metrics").Body.String()), ""))
	stop()
	require.Equal(t, "m_total 1\n", strings.Join(samplesOf(onescrape("", r).text(t)), ""))
}

func TestExportThatGetsNoSpace(t *testing.T) {
	r := inMemory(t)
	log := r.logTo()
	r.binding.limit = 64 << 10
	require.NoError(t, r.open(storeDir(t), 0))
	reg := prometheus.NewRegistry()
	g := promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{Name: "g"}, []string{"a"})
	for i := range 3000 {
		g.WithLabelValues(strconv.Itoa(i)).Set(1)
	}
	mustExport(t, r, reg, ExportOptions{})
	_, s := state(t, r)
	require.NotZero(t, s.Overflow)
	publishNow(r)
	_, again := state(t, r)
	require.Equal(t, s.Overflow, again.Overflow)
	require.Equal(t, 1, strings.Count(log.String(), "the store did not take a series"), log)
	n, err := testutil.GatherAndCount(gatherer{r}, "g")
	require.NoError(t, err)
	require.Equal(t, 3000, n+s.Overflow)
	g.Reset()
	publishNow(r)
	_, s = state(t, r)
	require.Zero(t, s.Overflow)
}

// A source with label churn among its gauges does not make the file grow.
func TestExportOfChurn(t *testing.T) {
	r := inStore(t)
	reg := prometheus.NewRegistry()
	g := promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{Name: "g"}, []string{"a"})
	mustExport(t, r, reg, ExportOptions{})
	var size int64
	for round := range 50 {
		g.Reset()
		for i := range 100 {
			g.WithLabelValues(fmt.Sprint(round%10, "-", i)).Set(1)
		}
		publishNow(r)
		publishNow(r)
		_, s := state(t, r)
		if round == 15 { // by then as many deleted gauges rest as may: 1,024, for a second each
			size = s.Reserved
		}
	}
	_, s := state(t, r)
	require.LessOrEqual(t, s.Reserved, size)
	require.Equal(t, 100, len(samplesOf(onescrape("", r).text(t))))
}
