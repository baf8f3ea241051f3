// Package aggregate merges the files that the processes of a prefork server write with package shmstore into one set of
// metric families. Store is a prometheus.Gatherer, so promhttp, testutil, push and every other tool can use it.
//
// The merged value of a series is:
//
//   - counter: the sum over all processes, living and dead
//   - histogram: the sum of each bucket, with _count from the buckets, and of _sum; of native buckets at the coarsest schema
//     and with the widest zero bucket of all processes
//   - summary: the sums of _sum and _count; the quantiles of all that the living processes observed of late, see
//     quantile.Window; of each quantile line that an exported summary has, the largest
//   - gauge and untyped: by the mode, see shmstore.GaugeMode
//
// Whole numbers are added in 128 bits and fractions without error, and the sum is rounded once. So a sum does not depend on
// the order of the additions or on the process that makes them. A gauge that a process never set has no part in min, max,
// avg and mostrecent, and is 0 when no process set it. NaN has no part in min and max either, as in PromQL, unless there is
// no other value.
//
// The newest exemplar of a counter or a classic bucket is shown, by the clocks of the processes; with native buckets alone,
// the newest of each of ten magnitudes. The created time is the oldest one of the processes whose counts are in the value.
//
// Gauges of the modes all and liveall have one series for each slot, with the slot's number in the label worker ("none" for
// processes without a slot); if several processes of one slot have the metric, the newest that said READY counts, or the
// newest of all if none did. If the metric itself has a label with that name, the label of the slot is onescrape_worker.
//
// When processes define one family differently, the definition of the process that said READY last rules; living processes
// come before dead ones. It rules help, unit, type, mode, bucket bounds, native buckets or none, and objectives. The counts
// of a histogram with other bounds are moved: each bucket's count goes to the smallest bound that holds all of it, also
// between classic and native buckets. A family of another type is left out. Label names may differ.
//
// A deleted gauge leaves the scrape at once. Other series count as long as a living process shows them, and leave as a
// whole when all living processes that had them have deleted them. A series that is made again while a process shows it, or
// has a handle to it, goes on; after a fold that found no such process, it starts at zero.
//
// Dead processes leave their files. Fold moves their contents into the store's archive, which is one file, and removes
// them; no sample changes. The archive keeps each definition separately and each sum exactly, so the time of a fold and the
// process that folds do not matter. When the ruling definition changes the mode of a gauge, an archived value counts as one
// value without a slot. A series that no living process has leaves the archive after the retention.
//
// Directories of other client libraries, see package foreign, are merged in the same pass: families with the same name and
// type add up, whichever library wrote them. In these files, all and liveall gauges carry a pid label. Series are never
// deleted one by one.
//
// No file can stop a scrape. What cannot be read is left out, counted by reason in onescrape_store_errors_total, and logged
// once:
//
//   - corrupt, version, foreign: the file, as shmstore's errors of these names say
//   - io: the system refused to open, list or map
//   - definition: a family with a label that is reserved; the rest of the file counts
//   - value: a cell that cannot be, such as a negative counter; the rest of the file counts
//
// A file is counted once for each problem, not at every scrape.
//
// A Store keeps a plan between scrapes: what each file declares, which of its cells are added to which series of the
// result, and the text of names and labels. A scrape reads the cells, adds them up and prints numbers; it allocates nothing
// for a series. A change in a file changes only its part of the plan. Text and OpenMetrics are written from the plan, byte
// for byte as expfmt writes what Gather returns; protobuf is made from Gather.
package aggregate
