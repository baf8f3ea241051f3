// Package class knows the classes of files that client_python and prometheus-client-mmap write: one for each type of metric, and for
// gauges one for each mode. Their names begin with the class.
package class

import (
	"strconv"
	"strings"

	"github.com/onescrape/onescrape/shmstore"
)

// Suffix is how the names of the files end.
const Suffix = ".db"

// Class is what files of one prefix have in common.
type Class struct {
	Type       shmstore.Type
	Mode       shmstore.GaugeMode
	PerProcess bool // the gauges of each process are exposed with its label pid
}

var classes = map[string]Class{
	"counter":              {Type: shmstore.CounterType},
	"histogram":            {Type: shmstore.HistogramType},
	"summary":              {Type: shmstore.SummaryType},
	"gauge_all":            {shmstore.GaugeType, shmstore.MostRecent, true},
	"gauge_liveall":        {shmstore.GaugeType, shmstore.LiveMostRecent, true},
	"gauge_sum":            {Type: shmstore.GaugeType, Mode: shmstore.Sum},
	"gauge_livesum":        {Type: shmstore.GaugeType, Mode: shmstore.LiveSum},
	"gauge_min":            {Type: shmstore.GaugeType, Mode: shmstore.Min},
	"gauge_livemin":        {Type: shmstore.GaugeType, Mode: shmstore.LiveMin},
	"gauge_max":            {Type: shmstore.GaugeType, Mode: shmstore.Max},
	"gauge_livemax":        {Type: shmstore.GaugeType, Mode: shmstore.LiveMax},
	"gauge_mostrecent":     {Type: shmstore.GaugeType, Mode: shmstore.MostRecent},
	"gauge_livemostrecent": {Type: shmstore.GaugeType, Mode: shmstore.LiveMostRecent},
}

// Of returns the class of that prefix; false when there is none.
func Of(prefix string) (Class, bool) {
	c, ok := classes[prefix]
	return c, ok
}

// Split takes the name of a file apart, as the libraries do, to which whatever follows the prefix is the process. ok is false when
// it does not end with Suffix; process is "" when nothing follows the prefix.
func Split(name string) (prefix, process string, ok bool) {
	base, ok := strings.CutSuffix(name, Suffix)
	if !ok {
		return "", "", false
	}
	prefix, process, _ = strings.Cut(base, "_")
	if prefix == "gauge" {
		var mode string
		mode, process, _ = strings.Cut(process, "_")
		prefix += "_" + mode
	}
	return prefix, process, true
}

// PID returns the pid that names a process; 0 for a process that has another name, such as that of its place in Unicorn or Puma.
func PID(process string) int {
	n, err := strconv.Atoi(process)
	if err != nil || n < 0 || strconv.Itoa(n) != process {
		return 0
	}
	return n
}
