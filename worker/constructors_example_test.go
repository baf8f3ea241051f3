package worker_test

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/onescrape/onescrape/worker"
)

// read returns a metric as a scrape would.
func read(m prometheus.Metric) *dto.Metric {
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		panic(err)
	}
	return &out
}

func ExampleNewCounter() {
	orders := worker.NewCounter(prometheus.CounterOpts{Name: "example_new_orders_total", Help: "Orders taken."})
	orders.Inc()
	orders.Add(2)
	fmt.Println(testutil.ToFloat64(orders))
	// Output: 3
}

func ExampleNewCounterVec() {
	mails := worker.NewCounterVec(prometheus.CounterOpts{Name: "example_mails_total", Help: "Mails sent."}, []string{"kind"})
	mails.WithLabelValues("welcome").Inc()
	mails.With(prometheus.Labels{"kind": "invoice"}).Add(4)
	fmt.Println(testutil.ToFloat64(mails.WithLabelValues("invoice")), testutil.CollectAndCount(mails))
	// Output: 4 2
}

func ExampleNewCounterFunc() {
	worker.NewCounterFunc(prometheus.CounterOpts{Name: "example_cache_hits_total", Help: "Hits, as the cache counts them."},
		func() float64 { return 7 })
	problems := testutil.GatherAndCompare(worker.Gatherer(), strings.NewReader(
		`# HELP example_cache_hits_total Hits, as the cache counts them.
# TYPE example_cache_hits_total counter
example_cache_hits_total 7
`), "example_cache_hits_total")
	fmt.Println(problems)
	// Output: <nil>
}

// Open connections of all living workers add up; what a dead worker had open is closed.
func ExampleNewGauge() {
	open := worker.NewGauge(prometheus.GaugeOpts{Name: "example_open_connections", Help: "Open connections."}, worker.LiveSum)
	open.Inc()
	open.Inc()
	open.Dec()
	fmt.Println(testutil.ToFloat64(open))
	// Output: 1
}

// The longest queue of any worker.
func ExampleNewGaugeVec() {
	length := worker.NewGaugeVec(prometheus.GaugeOpts{Name: "example_queue_length", Help: "Jobs that wait."},
		[]string{"queue"}, worker.LiveMax)
	length.WithLabelValues("mail").Set(12)
	fmt.Println(testutil.ToFloat64(length.WithLabelValues("mail")))
	// Output: 12
}

func ExampleNewGaugeFunc() {
	worker.NewGaugeFunc(prometheus.GaugeOpts{Name: "example_pool_size", Help: "Connections in the pool."}, worker.LiveSum,
		func() float64 { return 10 })
	fmt.Println(testutil.GatherAndCount(worker.Gatherer(), "example_pool_size"))
	// Output: 1 <nil>
}

func ExampleNewUntypedFunc() {
	worker.NewUntypedFunc(prometheus.UntypedOpts{Name: "example_sensor", Help: "What the sensor says."}, worker.MostRecent,
		func() float64 { return 21.5 })
	fmt.Println(testutil.GatherAndCount(worker.Gatherer(), "example_sensor"))
	// Output: 1 <nil>
}

func ExampleNewHistogram() {
	seconds := worker.NewHistogram(prometheus.HistogramOpts{Name: "example_render_seconds", Help: "How long rendering takes.",
		Buckets: []float64{0.1, 1}})
	seconds.Observe(0.05)
	seconds.Observe(0.5)
	for _, b := range read(seconds).Histogram.Bucket {
		fmt.Println(b.GetUpperBound(), b.GetCumulativeCount())
	}
	// Output:
	// 0.1 1
	// 1 2
}

func ExampleNewHistogramVec() {
	size := worker.NewHistogramVec(prometheus.HistogramOpts{Name: "example_upload_bytes", Help: "How large uploads are.",
		Buckets: prometheus.ExponentialBuckets(1024, 4, 5)}, []string{"kind"})
	size.WithLabelValues("image").Observe(5000)
	fmt.Println(testutil.CollectAndCount(size))
	// Output: 1
}

// With objectives the quantiles are those of the whole server, not of one worker.
func ExampleNewSummary() {
	seconds := worker.NewSummary(prometheus.SummaryOpts{Name: "example_query_seconds", Help: "How long queries take.",
		Objectives: map[float64]float64{0.5: 0.05}})
	for i := range 100 {
		seconds.Observe(float64(i + 1))
	}
	s := read(seconds).Summary
	fmt.Printf("%d %.0f %.0f", s.GetSampleCount(), s.GetSampleSum(), s.Quantile[0].GetValue())
	// Output: 100 5050 50
}

func ExampleNewSummaryVec() {
	bytes := worker.NewSummaryVec(prometheus.SummaryOpts{Name: "example_answer_bytes", Help: "How large answers are."},
		[]string{"code"})
	bytes.WithLabelValues("200").Observe(512)
	fmt.Println(testutil.CollectAndCount(bytes))
	// Output: 1
}

func ExampleNewInfo() {
	info := worker.NewInfo(prometheus.GaugeOpts{Name: "example_build_info", Help: "The build."},
		prometheus.Labels{"version": "1.2.3"})
	fmt.Println(testutil.ToFloat64(info))
	// Output: 1
}

// A label with a function has few values, whatever comes in.
func ExampleV2() {
	class := func(status string) string { return status[:1] + "xx" }
	answers := worker.V2.NewCounterVec(prometheus.CounterVecOpts{
		CounterOpts:    prometheus.CounterOpts{Name: "example_answers_total", Help: "Answers by class."},
		VariableLabels: prometheus.ConstrainedLabels{{Name: "class", Constraint: class}},
	})
	answers.WithLabelValues("200").Inc()
	answers.WithLabelValues("204").Inc()
	fmt.Println(testutil.ToFloat64(answers.WithLabelValues("2xx")))
	// Output: 2
}
