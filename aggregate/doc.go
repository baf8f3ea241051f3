// Package aggregate makes one set of metric families out of the files that the processes of a prefork server write with
// package shmstore. Store is a prometheus.Gatherer, so promhttp, testutil, push and every other tool works on it.
//
// What the merged value of a series is:
//
//   - counter: the sum over all processes, living and dead
//   - histogram: the sum of each bucket, with _count from the buckets, and of _sum; of native buckets at the coarsest schema
//     and with the widest zero bucket of all processes
//   - summary: the sums of _sum and _count; the quantiles of all that the living processes observed of late, see
//     shmstore.Window; of each quantile line that an exported summary has, the largest
//   - gauge and untyped: by the mode, see shmstore.GaugeMode
//
// Whole numbers are added in 128 bits and fractions without error, rounded once, so that a sum depends neither on the
// order nor on who adds it up. A gauge that a process never set takes no part in min, max, avg and mostrecent, and is 0
// where nobody set it. NaN takes no part in min and max either, as in PromQL, unless there is nothing else.
//
// Of the exemplars of one counter or one classic bucket (of native buckets alone, of one of ten magnitudes) the newest is
// shown, by the clocks of the processes that kept them. The
// created time is the oldest of all whose counts are in the value.
//
// Gauges of the modes all and liveall have one series for each slot, with the slot's number in the label worker
// ("none" for processes without a slot); of several processes of one slot that have the metric, the newest that said
// READY counts, the newest of all where none did. Where the metric has a label of that name itself, ours is
// onescrape_worker.
//
// Where processes define one family differently, the definition of the one that said READY last rules, of those that live
// if there are any: for help, unit, type, mode, bucket bounds, whether there are native buckets, and objectives. A histogram
// with other bounds is carried over: each bucket's count goes to the smallest bound that holds all of it; from classic to
// native buckets and back likewise. What has another type is left out. Label names may differ.
//
// A series that is deleted goes at once if it is a gauge. Anything else goes on counting as long as a living process
// shows it, and goes as a whole when all living processes that had it have deleted it. Made anew while some process shows
// it, or still holds a handle to it, it goes on; made anew after a fold has found that nobody does, it starts at zero.
//
// The dead leave their files. Fold takes these into the store's archive, one file, and removes them; no sample changes by
// that. The archive keeps every definition by itself and every sum exact, so it matters neither when nor by whom it was
// folded. A gauge whose mode the ruling definition changes counts as one value then, and no longer has a slot. A series
// that no living process has leaves the archive after the retention.
//
// Directories of other client libraries, see package foreign, are merged in the same pass: what has one name and one type
// adds up, whoever wrote it. Their files say all and liveall gauges by the label pid, and are never deleted in part.
//
// No file stops a scrape. What cannot be read is left out, counted in onescrape_store_errors_total by reason and logged
// once:
//
//   - corrupt, version, foreign: the file, as shmstore's errors of these names say
//   - io: the system refused to open, list or map
//   - definition: a family with a label that is reserved; the rest of the file counts
//   - value: a cell that cannot be, such as a negative counter; the rest of the file counts
//
// A file is counted when it comes into such a state, not at every scrape.
//
// A Store keeps a plan between scrapes: what each file declares, which of its cells add into which series of the result,
// and the text of names and labels. A scrape reads the cells, adds them up and prints numbers; it allocates nothing for a
// series. What changed in a file changes the plan a little. Text and OpenMetrics are written straight from the plan, byte
// for byte as expfmt writes what Gather returns; protobuf goes by way of Gather.
package aggregate
