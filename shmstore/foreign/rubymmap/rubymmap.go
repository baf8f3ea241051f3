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
	"github.com/onescrape/onescrape/shmstore/foreign/internal/class"
	"github.com/onescrape/onescrape/shmstore/internal/jsonkey"
)

// Open returns the directory of that path; see foreign.Open.
func Open(path string, o foreign.Options) (*foreign.Dir, error) {
	return foreign.Open(path, library, o)
}

var library = &foreign.Library{
	Name:       "prometheus-client-mmap",
	Suffix:     class.Suffix,
	Doubles:    []int{1},
	Cumulative: true,
	File:       file,
	Sample:     sample,
}

// prefixes are those of the files that the library writes.
var prefixes = []string{"counter", "histogram", "summary", "gauge_all", "gauge_liveall", "gauge_livesum", "gauge_min", "gauge_max"}

// file takes the name of a file apart. The number behind the process tells files of one process apart. The process may be a place
// in Unicorn or Puma: the next worker in there goes on with the file.
func file(name string) (foreign.Kind, bool) {
	prefix, process, ok := class.Split(name)
	if i := strings.LastIndexByte(process, '-'); i >= 0 && digits(process[i+1:]) {
		process = process[:i]
	}
	c, known := class.Of(prefix)
	if !ok || !known || !slices.Contains(prefixes, prefix) || process == "" {
		return foreign.Kind{}, false
	}
	return foreign.Kind{Class: prefix, Process: process, PID: class.PID(process), Live: c.Mode.Live()}, true
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// help is what the library exposes for every metric.
const help = "Multiprocess metric"

func sample(kind *foreign.Kind, key string) *foreign.Sample {
	c, _ := class.Of(kind.Class)
	metric, name, labels, ok := parse(key)
	if !ok {
		return nil
	}
	s := &foreign.Sample{PerProcess: c.PerProcess}
	s.Family = shmstore.Family{Name: metric, Help: help, Type: c.Type, Mode: c.Mode}
	switch {
	case c.Type != shmstore.HistogramType && c.Type != shmstore.SummaryType:
		s.Family.Name = name
	case name == metric+"_sum":
		s.Part = foreign.Sum
	case name == metric+"_count":
		s.Part = foreign.Count
	case name == metric+"_bucket" && c.Type == shmstore.HistogramType:
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
