// Package worker is for the worker processes of a prefork server. It has metrics that become part of one scrape of the
// whole server, and the life cycle of a worker.
//
// The metrics have client_golang's options, names and panics, and implement its interfaces. Two things differ. A metric is
// registered when it is constructed: there is no registry to pass around, and the same definition again returns the same
// metric. And a gauge needs a GaugeMode, which says how the values of several workers become one. The constructors say what
// else differs.
//
//	var jobs = worker.NewCounterVec(prometheus.CounterOpts{Name: "jobs_total", Help: "Jobs done."}, []string{"kind"})
//
// The first metric that is constructed decides where the values are kept, so that package-level variables work. When
// ONESCRAPE_DIR names a store, they are in this process's file in the store, and an increment that has returned survives
// whatever kills the process. Without ONESCRAPE_DIR they are in process memory, and Gatherer and Handler show this process
// alone. So the same code runs in a unit test and under go run. Open and Detach move the values without a loss.
//
// Existing client_golang metrics work without changes: Export publishes any prometheus.Gatherer into the same store, such
// as the default registry with the Go and process collectors.
//
// Delete, DeleteLabelValues, DeletePartialMatch and Reset of a vector remove series of this process; other workers may have
// the same series. The value of a gauge leaves the scrape at once. What a counter, a histogram or a summary has counted
// here stays in the server's sum as long as any live worker shows the series: if the sum fell by a part, Prometheus would
// see a restart, and rate would add the rest again. The series leaves as a whole when every live worker that had it has
// removed it. The space of a removed series is reused when the garbage collector has freed the last handle and, except for
// gauges, when the master has folded the counts, once a second. So the file of a worker that makes and removes label sets
// without end has room for the live ones and for those of the last seconds. A handle from before the removal stays usable:
// what it counts is not shown, and it never writes to a later series.
//
// A removed counter, histogram or summary that is made again goes on with its old value and created time as long as the
// store has the old one: in a live worker that shows it, or in a file until the garbage collector and a fold have run.
// After that it starts at zero with a new created time. Without a store it starts at zero at once, as with client_golang.
//
// Metrics never make the process fail. When the store cannot be used, or has no space for a series, one line on standard
// error says so. The values are then in process memory, and the scrape shows how many such series there are.
//
// Hot methods (Inc, Add, Set, Observe, and WithLabelValues for labels that were seen before) take no lock and allocate
// nothing. Gauges of the modes MostRecent and LiveMostRecent take a lock of their own.
package worker
