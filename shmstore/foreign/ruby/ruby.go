// Package ruby reads the directory of client_ruby's DirectFileStore.
//
// A process has a file for each metric: metric_NAME___PID.bin. A key is a query string of the labels. An entry has one
// float64 in early versions and two later on, value and time on the monotonic clock. Of a histogram the label le is the
// bound of a bucket, which counts what is in it alone, or "sum"; of a summary the label quantile is "sum" or "count".
//
// Files hold neither type nor help nor how the values of several processes become one. Definitions say so. Where there
// is none, what can be concluded safely is:
//
//   - a label le: a histogram; its buckets are those that were ever hit
//   - a label quantile that is sum or count: a summary
//   - a name that ends in _total: a counter
//   - a label pid, which the store adds to gauges of which each process keeps its own: a gauge
//
// Anything else is untyped, one series for each process, with the label pid: it is not known what of them is one value.
package ruby

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/foreign"
)

// Definition says what a metric is.
type Definition struct {
	// Type is counter, gauge, histogram or summary.
	Type string `yaml:"type"`
	Help string `yaml:"help"`
	// Aggregation is the store's setting: sum, max, min, all or, of gauges, most_recent. "": the store's default, all
	// for gauges and sum for anything else.
	Aggregation string `yaml:"aggregation"`
	// Buckets are the bounds of a histogram, without +Inf.
	Buckets []float64 `yaml:"buckets"`
}

// Open returns the directory of that path, see foreign.Open, with metrics defined by name; nil: none is. An error also
// says what is wrong with a definition.
func Open(path string, definitions map[string]Definition, o foreign.Options) (*foreign.Dir, error) {
	l := &library{metrics: map[string]metric{}}
	for _, name := range slices.Sorted(maps.Keys(definitions)) {
		m, err := definitions[name].metric(name)
		if err != nil {
			return nil, fmt.Errorf("shmstore: definition of %s: %w", name, err)
		}
		l.metrics[name] = m
	}
	return foreign.Open(path, &foreign.Library{
		Name:      "client_ruby",
		Suffix:    suffix,
		Doubles:   []int{1, 2},
		Padded:    true,
		Monotonic: true,
		File:      file,
		Sample:    l.sample,
		Bounds:    func(family string) []float64 { return l.metrics[family].family.Bounds },
	}, o)
}

const (
	prefix    = "metric_"
	separator = "___"
	suffix    = ".bin"
)

func file(name string) (foreign.Kind, bool) {
	base, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return foreign.Kind{}, false
	}
	base, ok = strings.CutSuffix(base, suffix)
	if !ok {
		return foreign.Kind{}, false
	}
	i := strings.LastIndex(base, separator)
	if i <= 0 {
		return foreign.Kind{}, false
	}
	process := base[i+len(separator):]
	pid, err := strconv.Atoi(process)
	if err != nil || pid <= 0 || strconv.Itoa(pid) != process {
		return foreign.Kind{}, false
	}
	return foreign.Kind{Class: base[:i], Process: process, PID: pid}, true
}

// library is what is known of the metrics.
type library struct{ metrics map[string]metric }

// metric is a definition as it is used.
type metric struct {
	family     shmstore.Family
	perProcess bool // one series each, but not for counters: those have a label already that keeps them apart
}

var (
	types = map[string]shmstore.Type{"counter": shmstore.CounterType, "gauge": shmstore.GaugeType,
		"histogram": shmstore.HistogramType, "summary": shmstore.SummaryType}
	modes = map[string]shmstore.GaugeMode{"sum": shmstore.Sum, "max": shmstore.Max, "min": shmstore.Min,
		"all": shmstore.MostRecent, "most_recent": shmstore.MostRecent}
)

func (d Definition) metric(name string) (metric, error) {
	m := metric{family: shmstore.Family{Name: name, Help: d.Help}}
	var ok bool
	if m.family.Type, ok = types[d.Type]; !ok {
		return m, fmt.Errorf("%q is no type, which are counter gauge histogram summary", d.Type)
	}
	aggregation := d.Aggregation
	if aggregation == "" {
		aggregation = "sum"
		if m.family.Type == shmstore.GaugeType {
			aggregation = "all"
		}
	}
	mode, ok := modes[aggregation]
	switch {
	case !ok:
		return m, fmt.Errorf("%q is no aggregation, which are sum max min all most_recent", d.Aggregation)
	case m.family.Type == shmstore.GaugeType:
		m.family.Mode, m.perProcess = mode, aggregation == "all"
	case aggregation != "sum" && aggregation != "all":
		return m, fmt.Errorf("aggregation %s is for gauges here, not for a %s", aggregation, d.Type)
	}
	if d.Buckets != nil {
		if m.family.Type != shmstore.HistogramType {
			return m, fmt.Errorf("buckets of a %s", d.Type)
		}
		if len(d.Buckets) > foreign.MaxBounds {
			return m, fmt.Errorf("%d buckets, of which there may be %d", len(d.Buckets), foreign.MaxBounds)
		}
		m.family.Bounds = slices.Clone(d.Buckets)
	}
	return m, m.family.Check()
}

// Labels by which the store tells parts of one series apart.
const (
	labelBound    = "le"
	labelQuantile = "quantile"
	labelPID      = "pid"

	partSum   = "sum"
	partCount = "count"
)

func (l *library) sample(kind *foreign.Kind, key string) *foreign.Sample {
	labels, ok := parse(key)
	if !ok {
		return nil
	}
	m, known := l.metrics[kind.Class]
	if !known {
		m = conclude(kind.Class, labels)
	}
	s := &foreign.Sample{Family: m.family, PerProcess: m.perProcess}
	s.Family.Bounds = nil
	part := ""
	switch m.family.Type {
	case shmstore.HistogramType:
		part, ok = labels[labelBound]
		delete(labels, labelBound)
	case shmstore.SummaryType:
		part, ok = labels[labelQuantile]
		delete(labels, labelQuantile)
	}
	switch {
	case !ok:
		return nil
	case m.family.Type != shmstore.HistogramType && m.family.Type != shmstore.SummaryType:
	case part == partSum:
		s.Part = foreign.Sum
	case part == partCount && m.family.Type == shmstore.SummaryType:
		s.Part = foreign.Count
	case m.family.Type == shmstore.HistogramType:
		bound, err := strconv.ParseFloat(part, 64)
		if err != nil {
			return nil
		}
		s.Part, s.Bound = foreign.Bucket, bound
	default:
		return nil
	}
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		s.Family.Labels, s.Values = append(s.Family.Labels, label), append(s.Values, labels[label])
	}
	return s
}

// conclude says what a metric is that nobody has defined.
func conclude(name string, labels map[string]string) metric {
	m := metric{family: shmstore.Family{Name: name}}
	quantile := labels[labelQuantile]
	switch {
	case labels[labelBound] != "":
		m.family.Type = shmstore.HistogramType
	case quantile == partSum, quantile == partCount:
		m.family.Type = shmstore.SummaryType
	case strings.HasSuffix(name, "_total"):
		m.family.Type = shmstore.CounterType
	case labels[labelPID] != "":
		m.family.Type, m.family.Mode, m.perProcess = shmstore.GaugeType, shmstore.MostRecent, true
	default:
		m.family.Type, m.family.Mode, m.perProcess = shmstore.UntypedType, shmstore.MostRecent, true
	}
	return m
}

// parse takes a query string apart as Ruby's CGI.parse does; of a name that comes more than once the first value
// counts. A value may be whatever bytes a client has sent: what is not UTF-8 in it is replaced, because no exposition may
// have it. CGI.escape leaves no control character as it is: a key with one is a hole in a sparse file, which takes no space
// on disk, and would take memory.
func parse(key string) (map[string]string, bool) {
	if strings.IndexFunc(key, unicode.IsControl) >= 0 {
		return nil, false
	}
	labels := map[string]string{}
	for pair := range strings.SplitSeq(key, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return nil, false
		}
		value, err = url.QueryUnescape(value)
		if err != nil {
			return nil, false
		}
		if _, known := labels[name]; !known {
			labels[name] = strings.ToValidUTF8(value, "\uFFFD")
		}
	}
	return labels, true
}
