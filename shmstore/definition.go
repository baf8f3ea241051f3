package shmstore

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
	"github.com/onescrape/onescrape/shmstore/nativehist"
	"github.com/onescrape/onescrape/shmstore/quantile"
)

// errDefinition is in every error of a definition that no file may hold.
var errDefinition = errors.New("invalid definition")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errDefinition, fmt.Sprintf(format, args...))
}

// Check returns nil for a definition that a writer may store, and otherwise an error with the reason.
func (f *Family) Check() error {
	if f.TooLong() {
		return errTooLong
	}
	return f.checkStored()
}

// checkStored is Check for a definition in a file, which a program of another version may have written: its texts may be
// longer than a writer's today.
func (f *Family) checkStored() error {
	return cmp.Or(f.checkTexts(), f.checkKind(), f.checkLabels(), f.checkBounds(), f.checkNative())
}

func (f *Family) checkTexts() error {
	if f.Name == "" {
		return invalid("it has no name")
	}
	for _, text := range [...]struct{ what, text string }{{"name", f.Name}, {"help text", f.Help}, {"unit", f.Unit}} {
		if err := checkText(text.what, text.text); err != nil {
			return err
		}
	}
	return nil
}

// checkText returns an error for a text that no file may hold. Text that is not UTF-8 would make a scraper refuse the whole
// exposition.
func checkText(what, s string) error {
	switch {
	case len(s) > encoding.MaxString:
		return invalid("the %s has %d bytes, at most %d are allowed", what, len(s), encoding.MaxString)
	case !utf8.ValidString(s):
		return invalid("the %s %.100q is not valid UTF-8", what, s)
	}
	return nil
}

// checkKind checks the type and what only some types have.
func (f *Family) checkKind() error {
	gauge := f.Type == GaugeType || f.Type == UntypedType
	switch {
	case f.Type < CounterType || f.Type > UntypedType:
		return invalid("there is no type %d", f.Type)
	case gauge && !f.Mode.valid():
		return invalid("a %s needs a mode, and there is no mode %d", f.Type, f.Mode)
	case !gauge && f.Mode != 0:
		return invalid("only gauges and untyped metrics have a mode, and this is a %s", f.Type)
	case f.Window != nil && f.Type != SummaryType:
		return invalid("only summaries have a window, and this is a %s", f.Type)
	case f.QuantileLines && (f.Type != GaugeType || f.Mode != LiveMax || !slices.Contains(f.Labels, QuantileLabel)):
		return invalid("quantile lines are gauges of mode %s with the label %q", LiveMax, QuantileLabel)
	case f.Window != nil:
		return checkWindow(f.Window)
	}
	return nil
}

func (f *Family) checkLabels() error {
	if len(f.Labels) > maxLabels {
		return invalid("it has %d labels, at most %d are allowed", len(f.Labels), maxLabels)
	}
	for i, l := range f.Labels {
		if l == "" {
			return invalid("a label has no name")
		}
		if err := checkText("label name", l); err != nil {
			return err
		}
		if i > 0 && f.Labels[i-1] >= l {
			return invalid("the label %.100q does not come after %.100q: labels are in ascending order, each once", l, f.Labels[i-1])
		}
	}
	return nil
}

func (f *Family) checkBounds() error {
	if len(f.Bounds) > 0 && f.Type != HistogramType {
		return invalid("only histograms have bounds, and this is a %s", f.Type)
	}
	if len(f.Bounds) > maxBounds {
		return invalid("it has %d bounds, at most %d are allowed", len(f.Bounds), maxBounds)
	}
	for i, v := range f.Bounds {
		switch {
		case math.IsNaN(v):
			return invalid("a bound is NaN")
		case math.IsInf(v, 1):
			return invalid("+Inf is no bound, because every histogram has it")
		case i > 0 && f.Bounds[i-1] >= v:
			return invalid("the bound %v does not come after %v: bounds are in ascending order, each once", v, f.Bounds[i-1])
		}
	}
	return nil
}

func (f *Family) checkNative() error {
	if f.Native == nil {
		return nil
	}
	if f.Type != HistogramType {
		return invalid("only histograms have native buckets, and this is a %s", f.Type)
	}
	return f.Native.check()
}

func (n *Native) check() error {
	switch {
	case n.Schema < nativehist.MinSchema || n.Schema > nativehist.MaxSchema:
		return invalid("the native schema %d is not from %d to %d", n.Schema, nativehist.MinSchema, nativehist.MaxSchema)
	case n.Buckets < 1 || n.Buckets > MaxNativeBuckets:
		return invalid("%d native buckets are not from 1 to %d", n.Buckets, MaxNativeBuckets)
	case !(n.ZeroThreshold >= 0 && n.ZeroThreshold <= math.MaxFloat64):
		return invalid("the zero threshold %v is not from 0 to %v", n.ZeroThreshold, math.MaxFloat64)
	case !(n.MaxZeroThreshold >= 0 && n.MaxZeroThreshold <= math.MaxFloat64):
		return invalid("the largest zero threshold %v is not from 0 to %v", n.MaxZeroThreshold, math.MaxFloat64)
	}
	return nil
}

func checkWindow(w *quantile.Window) error {
	switch {
	case w.Slices < 1 || w.Slices > quantile.MaxSlices:
		return invalid("%d slices of a window are not from 1 to %d", w.Slices, quantile.MaxSlices)
	case w.Resolution < 1 || w.Resolution > quantile.MaxResolution:
		return invalid("the resolution %d of a window is not from 1 to %d", w.Resolution, quantile.MaxResolution)
	case int64(w.Age) < int64(w.Slices):
		return invalid("a window of %v is too short for %d slices", w.Age, w.Slices)
	case len(w.Objectives) > quantile.MaxObjectives:
		return invalid("a window has %d objectives, at most %d are allowed", len(w.Objectives), quantile.MaxObjectives)
	}
	for i, q := range w.Objectives {
		if math.IsNaN(q) {
			return invalid("an objective is NaN")
		}
		if i > 0 && w.Objectives[i-1] >= q {
			return invalid("the objective %v does not come after %v: objectives are in ascending order, each once", q, w.Objectives[i-1])
		}
	}
	return nil
}

// CheckValue returns nil for a label value that files and archives may hold, and otherwise an error with the reason.
func CheckValue(s string) error { return checkText("label value", s) }
