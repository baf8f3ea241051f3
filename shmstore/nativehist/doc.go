// Package nativehist is the arithmetic of native histograms, for who writes them and who merges them: which bucket a value
// belongs to, what a bucket's bound is, how buckets add up at a coarser resolution, and their form in the exposition. It
// knows neither files nor processes.
//
// Buckets are those of Prometheus (https://prometheus.io/docs/specs/native_histograms): at schema s, from -4 to 8, bucket
// number i of the positive side holds the values in (2^((i-1)/2^s), 2^(i/2^s)], the negative side mirrors it, one bucket
// beyond that of the largest float64 holds the infinities, and the zero bucket holds what is not further from zero than the
// zero threshold. Two buckets that are neighbours in the right way make exactly one of the next lower schema, so that it
// does not matter when or how often histograms are made coarser.
package nativehist
