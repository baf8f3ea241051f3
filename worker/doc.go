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
// The process never fails for its metrics. A store that cannot be used, or that has no space for a series, is one line
// on standard error; the values are in process memory then, and the scrape shows how many such series there are.
//
// Hot methods (Inc, Add, Set, Observe, and WithLabelValues for labels that were seen before) take no lock and allocate
// nothing. Gauges of the modes MostRecent and LiveMostRecent take a lock of their own.
package worker
