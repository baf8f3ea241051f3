package integration

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// samples is an exposition as a set: the value of each sample, by its name and its labels in order. Bounds are numbers
// in it, because libraries write them differently.
type samples map[string]float64

// parseText returns the samples of an exposition, and the families that have any.
func parseText(t *testing.T, text []byte) (samples, map[string]*dto.MetricFamily) {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	require.NoError(t, err, "%s", text)
	maps.DeleteFunc(families, func(name string, mf *dto.MetricFamily) bool { return len(mf.Metric) == 0 })
	return flatten(families), families
}

func flatten(families map[string]*dto.MetricFamily) samples {
	all := samples{}
	for name, mf := range families {
		for _, m := range mf.Metric {
			add := func(suffix string, v float64, more ...string) {
				labels := more
				for _, l := range m.Label {
					if l.GetValue() != "" {
						labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
					}
				}
				slices.Sort(labels)
				all[name+suffix+"{"+strings.Join(labels, ",")+"}"] = v
			}
			switch {
			case m.Counter != nil:
				add("", m.Counter.GetValue())
			case m.Gauge != nil:
				add("", m.Gauge.GetValue())
			case m.Untyped != nil:
				add("", m.Untyped.GetValue())
			case m.Summary != nil:
				add("_sum", m.Summary.GetSampleSum())
				add("_count", float64(m.Summary.GetSampleCount()))
			case m.Histogram != nil:
				add("_sum", m.Histogram.GetSampleSum())
				add("_count", float64(m.Histogram.GetSampleCount()))
				for _, b := range m.Histogram.Bucket {
					add("_bucket", float64(b.GetCumulativeCount()), fmt.Sprintf("le=%v", b.GetUpperBound()))
				}
			}
		}
	}
	return all
}

// sameSamples compares what a library exposes with what we do. A library adds in float64s and rounds at each step, so
// where fractions are added its sum may be some of the last digit off; everything else is equal.
func sameSamples(t *testing.T, library, ours []byte) bool {
	t.Helper()
	want, wantFamilies := parseText(t, library)
	got, gotFamilies := parseText(t, ours)
	own := func(name string) bool { return strings.HasPrefix(name, "onescrape_") }
	maps.DeleteFunc(got, func(name string, _ float64) bool { return own(name) })
	maps.DeleteFunc(gotFamilies, func(name string, _ *dto.MetricFamily) bool { return own(name) })
	missing, more := maps.Clone(want), maps.Clone(got)
	maps.DeleteFunc(missing, func(name string, _ float64) bool { _, there := got[name]; return there })
	maps.DeleteFunc(more, func(name string, _ float64) bool { _, there := want[name]; return there })
	ok := assert.Empty(t, missing, "what only the library exposes") && assert.Empty(t, more, "what only we expose")
	for name, w := range want {
		g, there := got[name]
		if there && !nearlySame(w, g) {
			ok = assert.Equal(t, w, g, name)
		}
	}
	for name, w := range wantFamilies {
		g := gotFamilies[name]
		ok = ok && assert.Equal(t, w.GetType(), g.GetType(), "type of %s", name) &&
			assert.Equal(t, w.GetHelp(), g.GetHelp(), "help of %s", name)
	}
	return ok
}

// nearlySame wants whole numbers equal below 2^52, from where a float64 has no place for the fractions that a library adds
// on its way to a whole sum.
func nearlySame(a, b float64) bool {
	if a == b || math.IsNaN(a) && math.IsNaN(b) {
		return true
	}
	whole := a == math.Trunc(a) && b == math.Trunc(b) && math.Abs(a) < 1<<52
	return !whole && math.Abs(a-b) <= 16*(math.Nextafter(math.Abs(a), math.Inf(1))-math.Abs(a))
}
