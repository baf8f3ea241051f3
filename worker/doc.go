// Package worker is what runs inside a worker process of a prefork server: metrics that are part of one answer for the
// whole server, and the life of the process.
//
// The metrics are client_golang's to the programmer: the same options and names, the same panics, and types that
// satisfy its interfaces. What differs is said at each constructor; the two things to know are these. Constructing a
// metric is registering it: there is no registry to pass around, and the same definition again gives the same metric. A
// gauge names its GaugeMode, how the values of several workers become one.
//
//	var jobs = worker.NewCounterVec(prometheus.CounterOpts{Name: "jobs_total", Help: "Jobs done."}, []string{"kind"})
//
// Where the values are is decided when the first metric is constructed, so that package-level variables work. When
// ONESCRAPE_DIR names a store, they are in this process's file there, and an increment that has returned survives
// whatever kills the process. Without it they are in process memory, and Gatherer and Handler show this process alone:
// the same code runs in a unit test or under go run. Open and Detach move them, and nothing is lost on the way.
//
// What is instrumented already comes along unchanged: Export publishes any prometheus.Gatherer, such as the default
// registry with the Go and process collectors, into the same store.
//
// Removing a series (Delete, DeleteLabelValues, DeletePartialMatch, Reset of a vector) is about this process, and other
// workers may have the same series. A gauge's part leaves the scrape at once. What a counter, a histogram or a summary
// has counted here stays in the server's sum as long as any live worker shows the series, for a sum that falls part of
// the way looks to Prometheus like a restart, and rate would add the remainder once more. The series leaves as a whole
// when every live worker that had it has removed it. The space of a removed series is used again when the garbage collector
// has taken the last handle on it and, of all but gauges, when the master has folded what was counted, which it does once a
// second. A worker that makes and removes label sets without end keeps a file with room for those alive and those of the
// last seconds. A handle that was taken before the removal works on, unseen, and never writes to a series that comes later.
//
// A counter, histogram or summary that is made again goes on in the store with its old value and created time as long as the
// old one is there: in a live worker that shows it, or in a file, until the garbage collector and a fold have run. Made again
// after that, it starts at zero with a new created time. In process memory, without a store, it starts at zero at once, as
// it does with client_golang.
//
// The process never fails for its metrics. A store that cannot be used, or that has no space for a series, is one line
// on standard error; the values are in process memory then, and the scrape shows how many such series there are.
//
// Hot methods (Inc, Add, Set, Observe, and WithLabelValues for labels that were seen before) take no lock and allocate
// nothing. Gauges of the modes MostRecent and LiveMostRecent take a lock of their own.
package worker
