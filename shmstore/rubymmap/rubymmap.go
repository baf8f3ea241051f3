// Package rubymmap reads the directory that prometheus-client-mmap writes, GitLab's client for Ruby.
//
// A process has a file for each type, and for gauges for each mode, with a number that tells files of one process
// apart: counter_PROCESS-N.db, gauge_MODE_PROCESS-N.db. A key is a JSON list: the metric's name, the sample's name, a
// list of label names and one of label values. Files have no help text. An entry has one float64. A bucket's entry
// counts what is in the smaller ones too.
//
// What is exposed is what Formats::Text.marshal_multiprocess exposes, but that a count is always the bucket up to +Inf,
// and that a gauge of mode all or liveall that has a label pid itself gets the library's instead of two of one name.
package rubymmap

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/foreign"
	"github.com/onescrape/onescrape/shmstore/internal/jsonkey"
)

// Open returns the directory of that path; see foreign.Open.
func Open(path string, o foreign.Options) (*foreign.Dir, error) {
	return foreign.Open(path, library, o)
}

var library = &foreign.Library{
	Name:       "prometheus-client-mmap",
	Suffix:     suffix,
	Doubles:    []int{1},
	Cumulative: true,
	File:       file,
	Sample:     sample,
}

const suffix = ".db"

// class is what files of one prefix have in common.
type class struct {
	metric     shmstore.Type
	mode       shmstore.GaugeMode
	perProcess bool
}

var classes = map[string]class{
	"counter":       {metric: shmstore.CounterType},
	"histogram":     {metric: shmstore.HistogramType},
	"summary":       {metric: shmstore.SummaryType},
	"gauge_all":     {shmstore.GaugeType, shmstore.MostRecent, true},
	"gauge_liveall": {shmstore.GaugeType, shmstore.LiveMostRecent, true},
	"gauge_livesum": {metric: shmstore.GaugeType, mode: shmstore.LiveSum},
	"gauge_min":     {metric: shmstore.GaugeType, mode: shmstore.Min},
	"gauge_max":     {metric: shmstore.GaugeType, mode: shmstore.Max},
}

func file(name string) (foreign.Kind, bool) {
	base, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return foreign.Kind{}, false
	}
	prefix, process, _ := strings.Cut(base, "_")
	if prefix == "gauge" {
		var mode string
		mode, process, _ = strings.Cut(process, "_")
		prefix += "_" + mode
	}
	// The number of the file is no part of the process's name.
	if i := strings.LastIndexByte(process, '-'); i >= 0 && digits(process[i+1:]) {
		process = process[:i]
	}
	c, known := classes[prefix]
	if !known || process == "" {
		return foreign.Kind{}, false
	}
	return foreign.Kind{Class: prefix, Process: process, PID: pid(process), Live: c.mode.Live()}, true
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// pid returns 0 for a process that has another name than its number, such as that of its slot in Unicorn or Puma: the
// next worker in there goes on with the file.
func pid(process string) int {
	n, err := strconv.Atoi(process)
	if err != nil || n < 0 || strconv.Itoa(n) != process {
		return 0
	}
	return n
}

// help is what the library exposes for every metric.
const help = "Multiprocess metric"

func sample(kind *foreign.Kind, key string) *foreign.Sample {
	c := classes[kind.Class]
	metric, name, labels, ok := parse(key)
	if !ok {
		return nil
	}
	s := &foreign.Sample{PerProcess: c.perProcess}
	s.Family = shmstore.Family{Name: metric, Help: help, Type: c.metric, Mode: c.mode}
	switch {
	case c.metric != shmstore.HistogramType && c.metric != shmstore.SummaryType:
		s.Family.Name = name
	case name == metric+"_sum":
		s.Part = foreign.Sum
	case name == metric+"_count":
		s.Part = foreign.Count
	case name == metric+"_bucket" && c.metric == shmstore.HistogramType:
		bound, err := strconv.ParseFloat(labels["le"], 64)
		if err != nil {
			return nil
		}
		s.Part, s.Bound = foreign.Bucket, bound
		delete(labels, "le")
	default:
		return nil
	}
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		s.Family.Labels, s.Values = append(s.Family.Labels, label), append(s.Values, labels[label])
	}
	return s
}

func parse(key string) (metric, name string, labels map[string]string, ok bool) {
	s := jsonkey.New(key)
	s.Take('[')
	metric = s.String()
	s.Take(',')
	name = s.String()
	s.Take(',')
	names := s.Strings(s.String)
	s.Take(',')
	values := s.Strings(s.Text)
	s.Take(']')
	if !s.Good() || len(names) != len(values) {
		return "", "", nil, false
	}
	labels = make(map[string]string, len(names))
	for i := range names {
		labels[names[i]] = values[i]
	}
	return metric, name, labels, true
}
