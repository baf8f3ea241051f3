package foreign

import (
	"unicode/utf8"

	"github.com/onescrape/onescrape/shmstore"
)

// Library says how a client library lays out its files and what names and keys in them mean. It is not changed once it
// is in use.
type Library struct {
	// Name is what messages call the library.
	Name string
	// Suffix ends the names of its files; others in the directory are none of its.
	Suffix string
	// Doubles are the numbers of float64s that an entry may have, 1 or 2, ascending. Files do not say which; one that
	// can be read both ways, or neither, is corrupt.
	Doubles []int
	// Padded says that the length of a key is that with its padding.
	Padded bool
	// Monotonic says that times are of the system's monotonic clock; otherwise they are since 1970. Both are in
	// seconds.
	Monotonic bool
	// Cumulative says that the entry of a bucket has what those of smaller bounds count too.
	Cumulative bool
	// HideUnset says that a gauge of mode mostrecent is not exposed before it was set.
	HideUnset bool
	// File returns what a file is by its name, and false for a file that is not the library's.
	File func(name string) (Kind, bool)
	// Sample returns what a key in the files of one class means, and nil for a key without a meaning. The same key always means the
	// same. A metric that nobody has defined, so that it is not known what it is, is untyped.
	Sample func(kind *Kind, key string) *Sample
	// Bounds returns the bounds, ascending and without +Inf, that a histogram has even where no file mentions them; nil
	// for a library whose files mention all.
	Bounds func(family string) []float64
}

// file is File for any name: what is not UTF-8 would spoil the exposition as a label's value.
func (l *Library) file(name string) (Kind, bool) {
	if !utf8.ValidString(name) {
		return Kind{}, false
	}
	return l.File(name)
}

// Kind is what the name of a file says.
type Kind struct {
	// Class is the part of the name that the meaning of keys depends on.
	Class string
	// Process is what the library calls the process, as in the label pid.
	Process string
	// PID is the number of the process, 0 when the name does not have it. A file without is never compacted.
	PID int
	// Live says that gauges in the file are of the living.
	Live bool
}

// Part is what of a series an entry holds.
type Part uint8

// The parts: a counter and a gauge are one value, a summary is sum and count, a histogram its sum and one bucket for
// each bound. A count beside the buckets says nothing that they do not.
const (
	Value Part = iota
	Sum
	Count
	Bucket
)

// Sample is what a key means.
type Sample struct {
	// Family is the definition, without Bounds. Its label names are ascending.
	Family shmstore.Family
	// Values are the values of its labels.
	Values []string
	Part   Part
	// Bound is a bucket's, which may be +Inf.
	Bound float64
	// PerProcess adds the label pid, in the place of one that the metric has: each process has a series of its own. The
	// mode is MostRecent or LiveMostRecent then, and of two files that have one label the newer counts.
	PerProcess bool
}

// pidLabel is the label that the libraries add.
const pidLabel = "pid"
