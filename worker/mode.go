package worker

import (
	"fmt"

	"github.com/onescrape/onescrape/shmstore"
)

// GaugeMode says how the values of one gauge in several workers become one. It is an alias of shmstore's type.
type GaugeMode = shmstore.GaugeMode

// The modes of a gauge. Modes with Live forget the value of a worker that dies, the others keep its last value. Add and Sub
// make sense with Sum and LiveSum only.
const (
	All            = shmstore.All            // one series a worker, with its slot as the label "worker"
	LiveAll        = shmstore.LiveAll        // as All, of the live ones
	Sum            = shmstore.Sum            // the sum
	LiveSum        = shmstore.LiveSum        // the sum over the live ones: requests in flight, open connections
	Min            = shmstore.Min            // the smallest
	LiveMin        = shmstore.LiveMin        // the smallest of the live ones
	Max            = shmstore.Max            // the largest: a version, a high-water mark
	LiveMax        = shmstore.LiveMax        // the largest of the live ones
	Avg            = shmstore.Avg            // the mean
	LiveAvg        = shmstore.LiveAvg        // the mean over the live ones
	MostRecent     = shmstore.MostRecent     // the one that was set last: a time of the last success
	LiveMostRecent = shmstore.LiveMostRecent // the one that was set last by a live one
)

// checkMode panics, with what to pass, when a constructor got no mode of this package.
func checkMode(typ shmstore.Type, name string, mode GaugeMode) {
	if mode.String() != "" {
		return
	}
	const pass = "pass how the values of several workers become one: worker.LiveSum for what adds up and ends with its worker, " +
		"worker.Sum for what stays, worker.Max or worker.MostRecent for one value of all, worker.LiveAll for one series a worker"
	if mode == 0 {
		panic(fmt.Errorf("%s %q has no mode: %s", typ, name, pass))
	}
	panic(fmt.Errorf("%s %q has the mode %d, which worker does not know: %s", typ, name, mode, pass))
}
