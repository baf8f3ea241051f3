package shmstore

import (
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
	"github.com/onescrape/onescrape/shmstore/quantile"
)

// Type is what a family measures. The numbers are part of the file format.
type Type uint8

// The types of a family.
const (
	CounterType Type = iota + 1
	GaugeType
	HistogramType
	SummaryType
	UntypedType
)

var typeNames = [...]string{"", "counter", "gauge", "histogram", "summary", "untyped"}

// String returns the type's name in the text format, "" for one that is not known.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return ""
}

// GaugeMode says how the values of one gauge in several processes become one. The numbers are part of the file format.
type GaugeMode uint8

// The modes of a gauge. Those with Live forget a process when it dies, the others keep its last value.
const (
	All            GaugeMode = iota + 1 // one series a worker, with its slot as a label
	LiveAll                             // as All, of the live ones
	Sum                                 // the sum
	LiveSum                             // the sum over the live ones
	Min                                 // the smallest
	LiveMin                             // the smallest of the live ones
	Max                                 // the largest
	LiveMax                             // the largest of the live ones
	Avg                                 // the mean
	LiveAvg                             // the mean over the live ones
	MostRecent                          // the one that was set last
	LiveMostRecent                      // the one that was set last by a live one
)

var modeNames = [...]string{"", "all", "liveall", "sum", "livesum", "min", "livemin", "max", "livemax", "avg", "liveavg",
	"mostrecent", "livemostrecent"}

// String returns the mode's name in lower case, such as livesum; "" for an unknown mode.
func (m GaugeMode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return ""
}

// Live reports whether the mode forgets a process when it dies.
func (m GaugeMode) Live() bool { return m&1 == 0 && m.valid() }

// Base returns the mode without Live: Sum for LiveSum and for Sum.
func (m GaugeMode) Base() GaugeMode {
	if m.Live() {
		return m - 1
	}
	return m
}

func (m GaugeMode) valid() bool { return m >= All && m <= LiveMostRecent }

// Family is a definition: what all series of one name have in common. Two families are the same exactly when their Key
// is; Help and Unit are no part of it.
type Family struct {
	Name string
	Help string
	Unit string
	Type Type
	Mode GaugeMode // of a gauge or an untyped family; 0 for every other type
	// Labels are the names of all labels of the family's series, constant ones included, in ascending order.
	Labels []string
	// Bounds are the upper bounds of a classic histogram's buckets, strictly ascending, without +Inf; nil for every other
	// type.
	Bounds []float64
	// Native is how the native buckets of a histogram work; nil: it has none.
	Native *Native
	// QuantileLines says that the series are the quantile lines of the summary of the same name, as somebody else has
	// computed them: gauges of mode LiveMax, one of whose labels is QuantileLabel.
	QuantileLines bool
	// Window is what a summary with objectives has of its latest observations; nil for every other type.
	Window *quantile.Window
}

// QuantileLabel is the label that names the quantile of a summary's line, as in every exposition format.
const QuantileLabel = "quantile"

// Key returns a string that identifies the definition. It is equal for two families exactly when name, type, mode, label
// names, bounds and window are equal, and both or none have native buckets. Native buckets of different resolutions can be
// added up.
func (f *Family) Key() string {
	b := make([]byte, 0, 64+8*len(f.Bounds))
	b = encoding.AppendString(b, f.Name)
	b = append(b, byte(f.Type), byte(f.Mode))
	b = encoding.AppendUint32(b, uint32(len(f.Labels)))
	for _, l := range f.Labels {
		b = encoding.AppendString(b, l)
	}
	for _, v := range f.Bounds {
		b = encoding.AppendUint64(b, math.Float64bits(v))
	}
	if f.QuantileLines {
		b = append(b, tagQuantileLines)
	}
	if f.Native != nil {
		b = append(b, "native"...)
	}
	if f.Window != nil {
		b = appendWindow(b, f.Window)
	}
	return string(b)
}

// Words returns how many cells of 8 bytes one series of the family has. Cells says what they hold.
func (f *Family) Words() int {
	switch f.Type {
	case CounterType:
		return CounterWords
	case HistogramType:
		return f.NativeCells() + f.Native.words()
	case SummaryType:
		return SummaryWords
	default:
		if f.timed() {
			return TimedWords
		}
		return GaugeWords
	}
}

// timed reports whether the family's values carry the time at which they were set.
func (f *Family) timed() bool { return f.Mode.Base() == MostRecent }

// Limits of a definition. A file that exceeds one is corrupt.
const (
	maxLabels = 256
	maxBounds = 4096
)

// Maximum lengths in bytes of names and help texts. Each sample and each scrape repeats them. Files of older programs may
// have longer ones, see TooLong.
const (
	MaxName = 4 << 10 // of a metric or a label; also of a unit
	MaxHelp = 64 << 10
)

var errTooLong = fmt.Errorf("a name of a metric or label is longer than %d bytes, or a help text than %d", MaxName, MaxHelp)

// TooLong reports whether a name or the help text of a stored definition is longer than a writer may make it. Readers
// leave out such a family, and not its file.
func (f *Family) TooLong() bool {
	return len(f.Name) > MaxName || len(f.Unit) > MaxName || len(f.Help) > MaxHelp ||
		slices.ContainsFunc(f.Labels, func(l string) bool { return len(l) > MaxName })
}

// fits reports whether a file may hold the text, see checkText.
func fits(s string) bool { return len(s) <= encoding.MaxString && utf8.ValidString(s) }
