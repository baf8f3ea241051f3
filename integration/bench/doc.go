// Command bench measures what a scrape of a prefork server costs, with this project and with its peers, on the same work,
// in one run and by turns:
//
//	go run -C integration/bench .
//
// It fills the stores, or registers, of each with the same values, requires that all of them expose the same sums, and then
// scrapes one after the other, round after round: for 1, 8 and 32 workers with 1,000, 10,000 and 100,000 counters of whole
// numbers, 10,000 of fractions, and 1,000 histograms of 11 buckets. It also measures the hot path, a rollout, what workers
// lose while they are scraped, and the requests a second of whole servers. It prints a table, the ratios first; -svg draws
// it. A peer that is not installed is named as missing. -short takes a few seconds and proves that it runs.
//
// The peers: client_golang and VictoriaMetrics/metrics, each as one process that has all the series itself; the
// multiprocess modes of client_python (Debian: python3-prometheus-client) and of prometheus-client-mmap for Ruby
// (ruby-prometheus-client-mmap); the cluster aggregation of prom-client for Node.js (npm; -node-modules says where), from
// reports that have arrived, so without the messages between its processes; and, for requests, the prefork of fasthttp.
package main
