// Package clientpython reads the directory that client_python's multiprocess mode writes, PROMETHEUS_MULTIPROC_DIR.
//
// A process has a file for each type, and for gauges for each mode: counter_PID.db, histogram_PID.db, summary_PID.db,
// gauge_MODE_PID.db. A key is a JSON list: the metric's name, the sample's name, an object of labels, and, except in
// early versions, the help text. An entry has one float64 up to version 0.16 and two after it, value and time; a
// directory may mix them. A bucket's entry counts what is in that bucket alone.
//
// What is exposed is what MultiProcessCollector exposes. Gauges of the modes all and liveall have the label pid; of
// other gauges a label of that name is dropped, as there. live modes are of the processes whose file is there, which
// the library removes when mark_process_dead is called; in a directory that is compacted they are of those that live.
package clientpython

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
	Name:      "client_python",
	Suffix:    suffix,
	Doubles:   []int{1, 2},
	HideUnset: true,
	File:      file,
	Sample:    sample,
}

const suffix = ".db"

// class is what files of one prefix have in common.
type class struct {
	metric     shmstore.Type
	mode       shmstore.GaugeMode
	perProcess bool
}

var classes = map[string]class{
	"counter":              {metric: shmstore.CounterType},
	"histogram":            {metric: shmstore.HistogramType},
	"summary":              {metric: shmstore.SummaryType},
	"gauge_all":            {shmstore.GaugeType, shmstore.MostRecent, true},
	"gauge_liveall":        {shmstore.GaugeType, shmstore.LiveMostRecent, true},
	"gauge_sum":            {metric: shmstore.GaugeType, mode: shmstore.Sum},
	"gauge_livesum":        {metric: shmstore.GaugeType, mode: shmstore.LiveSum},
	"gauge_min":            {metric: shmstore.GaugeType, mode: shmstore.Min},
	"gauge_livemin":        {metric: shmstore.GaugeType, mode: shmstore.LiveMin},
	"gauge_max":            {metric: shmstore.GaugeType, mode: shmstore.Max},
	"gauge_livemax":        {metric: shmstore.GaugeType, mode: shmstore.LiveMax},
	"gauge_mostrecent":     {metric: shmstore.GaugeType, mode: shmstore.MostRecent},
	"gauge_livemostrecent": {metric: shmstore.GaugeType, mode: shmstore.LiveMostRecent},
}

// file takes names apart as the library does, to which whatever follows the prefix is the process.
func file(name string) (foreign.Kind, bool) {
	base, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return foreign.Kind{}, false
	}
	prefix, process, ok := strings.Cut(base, "_")
	if prefix == "gauge" {
		var mode string
		mode, process, ok = strings.Cut(process, "_")
		prefix += "_" + mode
	}
	c, known := classes[prefix]
	if !known || !ok || process == "" {
		return foreign.Kind{}, false
	}
	return foreign.Kind{Class: prefix, Process: process, PID: pid(process), Live: c.mode.Live()}, true
}

// pid returns 0 for a process that has another name than its number.
func pid(process string) int {
	n, err := strconv.Atoi(process)
	if err != nil || n < 0 || strconv.Itoa(n) != process {
		return 0
	}
	return n
}

func sample(kind *foreign.Kind, key string) *foreign.Sample {
	c := classes[kind.Class]
	metric, name, help, labels, ok := parse(key)
	if !ok {
		return nil
	}
	s := &foreign.Sample{PerProcess: c.perProcess}
	s.Family = shmstore.Family{Name: metric, Help: help, Type: c.metric, Mode: c.mode}
	switch c.metric {
	case shmstore.HistogramType:
		switch name {
		case metric + "_sum":
			s.Part = foreign.Sum
		case metric + "_count":
			s.Part = foreign.Count
		case metric + "_bucket":
			bound, err := strconv.ParseFloat(labels["le"], 64)
			if err != nil {
				return nil
			}
			s.Part, s.Bound = foreign.Bucket, bound
			delete(labels, "le")
		default:
			return nil
		}
	case shmstore.SummaryType:
		switch name {
		case metric + "_sum":
			s.Part = foreign.Sum
		case metric + "_count":
			s.Part = foreign.Count
		default:
			return nil
		}
	case shmstore.GaugeType:
		s.Family.Name = name
		delete(labels, "pid")
	default:
		s.Family.Name = name
	}
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		s.Family.Labels, s.Values = append(s.Family.Labels, label), append(s.Values, labels[label])
	}
	return s
}

// oldHelp is what is exposed where the key has no help text.
const oldHelp = "Multiprocess metric"

func parse(key string) (metric, name, help string, labels map[string]string, ok bool) {
	s := jsonkey.New(key)
	s.Take('[')
	metric = s.String()
	s.Take(',')
	name = s.String()
	s.Take(',')
	s.Take('{')
	labels = map[string]string{}
	for first := true; s.Clean() && !s.Next('}'); first = false {
		if !first {
			s.Take(',')
		}
		label := s.String()
		s.Take(':')
		labels[label] = s.Text()
	}
	help = oldHelp
	if s.Next(',') {
		help = s.String()
	}
	s.Take(']')
	return metric, name, help, labels, s.Good()
}
