package shmstore

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
	"github.com/onescrape/onescrape/shmstore/nativehist"
	"github.com/onescrape/onescrape/shmstore/quantile"
)

// Each thing that a definition can have wrong has a reason of its own.
func TestDefinitionIsRefusedWithItsReason(t *testing.T) {
	counter := Family{Name: "c_total", Type: CounterType, Labels: []string{"a", "b"}}
	gauge := Family{Name: "g", Type: GaugeType, Mode: Sum}
	histogram := Family{Name: "h", Type: HistogramType, Bounds: []float64{1, 2},
		Native: &Native{Schema: 2, Buckets: 10, ZeroThreshold: 1, MaxZeroThreshold: 2}}
	summary := Family{Name: "s", Type: SummaryType,
		Window: &quantile.Window{Slices: 2, Resolution: 1, Age: time.Second, Objectives: []float64{.5, .9}}}
	lines := Family{Name: "s", Type: GaugeType, Mode: LiveMax, Labels: []string{QuantileLabel}, QuantileLines: true}
	for _, f := range []Family{counter, gauge, histogram, summary, lines} {
		require.NoError(t, f.Check(), f.Name)
	}
	with := func(f Family, change func(f *Family)) Family {
		if f.Native != nil {
			f.Native = new(*f.Native)
		}
		if f.Window != nil {
			f.Window = new(*f.Window)
		}
		change(&f)
		return f
	}
	seen := map[string]bool{}
	for _, c := range []struct {
		family Family
		reason string
	}{
		{with(counter, func(f *Family) { f.Name = "" }), "it has no name"},
		{with(counter, func(f *Family) { f.Name = "\xff" }), `the name "\xff" is not valid UTF-8`},
		{with(counter, func(f *Family) { f.Help = "\xff" }), `the help text "\xff" is not valid UTF-8`},
		{with(counter, func(f *Family) { f.Unit = "\xff" }), `the unit "\xff" is not valid UTF-8`},
		{with(counter, func(f *Family) { f.Help = strings.Repeat("x", encoding.MaxString+1) }), "the help text has 1048577 bytes, at most 1048576 are allowed"},
		{with(counter, func(f *Family) { f.Type = 0 }), "there is no type 0"},
		{with(counter, func(f *Family) { f.Type = UntypedType + 1 }), "there is no type 6"},
		{with(counter, func(f *Family) { f.Mode = Sum }), "only gauges and untyped metrics have a mode, and this is a counter"},
		{with(gauge, func(f *Family) { f.Mode = 0 }), "a gauge needs a mode, and there is no mode "},
		{with(gauge, func(f *Family) { f.Window = summary.Window }), "only summaries have a window, and this is a gauge"},
		{with(gauge, func(f *Family) { f.Bounds = []float64{1} }), "only histograms have bounds, and this is a gauge"},
		{with(gauge, func(f *Family) { f.Native = histogram.Native }), "only histograms have native buckets, and this is a gauge"},
		{with(lines, func(f *Family) { f.Labels = nil }), `quantile lines are gauges of mode livemax with the label "quantile"`},
		{with(counter, func(f *Family) { f.Labels = make([]string, maxLabels+1) }), "it has 257 labels, at most 256 are allowed"},
		{with(counter, func(f *Family) { f.Labels = []string{""} }), "a label has no name"},
		{with(counter, func(f *Family) { f.Labels = []string{"\xff"} }), `the label name "\xff" is not valid UTF-8`},
		{with(counter, func(f *Family) { f.Labels = []string{"b", "a"} }), `the label "a" does not come after "b": labels are in ascending order, each once`},
		{with(histogram, func(f *Family) { f.Bounds = make([]float64, maxBounds+1) }), "it has 4097 bounds, at most 4096 are allowed"},
		{with(histogram, func(f *Family) { f.Bounds = []float64{math.NaN()} }), "a bound is NaN"},
		{with(histogram, func(f *Family) { f.Bounds = []float64{1, math.Inf(1)} }), "+Inf is no bound, because every histogram has it"},
		{with(histogram, func(f *Family) { f.Bounds = []float64{1, 1} }), "the bound 1 does not come after 1: bounds are in ascending order, each once"},
		{with(histogram, func(f *Family) { f.Native.Schema = nativehist.MaxSchema + 1 }), "the native schema 9 is not from -4 to 8"},
		{with(histogram, func(f *Family) { f.Native.Buckets = 0 }), "0 native buckets are not from 1 to "},
		{with(histogram, func(f *Family) { f.Native.ZeroThreshold = -1 }), "the zero threshold -1 is not from 0 to "},
		{with(histogram, func(f *Family) { f.Native.MaxZeroThreshold = math.NaN() }), "the largest zero threshold NaN is not from 0 to "},
		{with(summary, func(f *Family) { f.Window.Slices = 0 }), "0 slices of a window are not from 1 to "},
		{with(summary, func(f *Family) { f.Window.Resolution = 0 }), "the resolution 0 of a window is not from 1 to "},
		{with(summary, func(f *Family) { f.Window.Age = 1 }), "a window of 1ns is too short for 2 slices"},
		{with(summary, func(f *Family) { f.Window.Objectives = make([]float64, quantile.MaxObjectives+1) }), "objectives, at most "},
		{with(summary, func(f *Family) { f.Window.Objectives = []float64{math.NaN()} }), "an objective is NaN"},
		{with(summary, func(f *Family) { f.Window.Objectives = []float64{.9, .5} }), "the objective 0.5 does not come after 0.9"},
	} {
		err := c.family.checkStored()
		require.ErrorIs(t, err, errDefinition, c.reason)
		assert.ErrorContains(t, err, "invalid definition: ")
		assert.ErrorContains(t, err, c.reason)
		assert.Error(t, c.family.Check(), c.reason)
		assert.False(t, seen[c.reason], c.reason)
		seen[c.reason] = true
	}
	assert.ErrorContains(t, CheckValue("\xff"), `the label value "\xff" is not valid UTF-8`)
	assert.NoError(t, CheckValue("ü"))
}

func TestCheckAllocatesNothing(t *testing.T) {
	f := Family{Name: "h", Type: HistogramType, Labels: []string{"a", "b"}, Bounds: []float64{1, 2}}
	assert.Zero(t, testing.AllocsPerRun(10, func() { require.NoError(t, f.Check()) }))
}
