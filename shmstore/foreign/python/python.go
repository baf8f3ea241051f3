// Package python reads the directory that client_python's multiprocess mode writes, PROMETHEUS_MULTIPROC_DIR.
//
// A process has a file for each type, and for gauges for each mode: counter_PID.db, histogram_PID.db, summary_PID.db,
// gauge_MODE_PID.db. A key is a JSON list: the metric's name, the sample's name, an object of labels, and, except in
// early versions, the help text. An entry has one float64 up to version 0.16 and two after it, value and time; a
// directory may mix them. A bucket's entry counts what is in that bucket alone.
//
// What is exposed is what MultiProcessCollector exposes. Gauges of the modes all and liveall have the label pid; of
// other gauges a label of that name is dropped, as there. live modes are of the processes whose file is there, which
// the library removes when mark_process_dead is called; in a directory that is compacted they are of those that live.
package python

import (
	"maps"
	"slices"
	"strconv"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/foreign"
	"github.com/onescrape/onescrape/shmstore/foreign/internal/class"
	"github.com/onescrape/onescrape/shmstore/internal/jsonkey"
)

// Open returns the directory of that path; see foreign.Open.
func Open(path string, o foreign.Options) (*foreign.Dir, error) {
	return foreign.Open(path, library, o)
}

var library = &foreign.Library{
	Name:      "client_python",
	Suffix:    class.Suffix,
	Doubles:   []int{1, 2},
	HideUnset: true,
	File:      file,
	Sample:    sample,
}

func file(name string) (foreign.Kind, bool) {
	prefix, process, ok := class.Split(name)
	c, known := class.Of(prefix)
	if !ok || !known || process == "" {
		return foreign.Kind{}, false
	}
	return foreign.Kind{Class: prefix, Process: process, PID: class.PID(process), Live: c.Mode.Live()}, true
}

func sample(kind *foreign.Kind, key string) *foreign.Sample {
	c, _ := class.Of(kind.Class)
	metric, name, help, labels, ok := parse(key)
	if !ok {
		return nil
	}
	s := &foreign.Sample{PerProcess: c.PerProcess}
	s.Family = shmstore.Family{Name: metric, Help: help, Type: c.Type, Mode: c.Mode}
	switch c.Type {
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
