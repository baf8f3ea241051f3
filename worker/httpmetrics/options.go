package httpmetrics

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Options say what Metrics measure. The zero value gives the default metrics without prefix.
type Options struct {
	// Prefix is put before the names of the default metrics, with an underscore; "" for none.
	Prefix string
	// GroupBy is what durations and sizes are grouped by. The zero value is ByRoute.
	GroupBy GroupBy
	// Buckets are the upper bounds, in seconds, of the duration's buckets. nil: those of client_python, from 5 ms to 10 s;
	// empty and not nil: native buckets alone, with NativeFactor.
	Buckets []float64
	// NativeFactor gives the duration native buckets, each at most that many times as wide as the one before, beside the
	// classic ones: 1.1 is a good value. 0 for none. docs/native-histograms.md says what Prometheus makes of both.
	NativeFactor float64
	// Summary makes the duration a summary without quantiles: count and sum.
	Summary bool
	// NoDefaults leaves out the default metrics, also those of the process.
	NoDefaults bool
	// Sizes adds histograms of the sizes of request and response bodies, in bytes.
	Sizes bool
	// InFlight adds a gauge of the requests that are being answered. It has the constant ones among Labels.
	InFlight bool
	// TrackExcluded has metrics of RegisterDefault count what ExcludedPaths match.
	TrackExcluded bool
	// Labels are added to the default metrics, but exporter_info, and to every metric made by these Metrics.
	Labels []Label
	// ExcludedPaths are for URL paths that are not measured. They match from the start of the path, and need not match to
	// its end, as Python's re.match: "/exc" excludes "/excluded" and not "/an/exc".
	ExcludedPaths []*regexp.Regexp
	// Exemplar gives the labels of the duration's exemplar, such as the id of the trace in the request's context; nil
	// labels for none. What it does wrong is counted as of a label "exemplar", and costs the exemplar.
	Exemplar func(*Exchange) prometheus.Labels
	// MetricsPath is where Wrap serves the metrics of the whole server, which are not measured themselves. "": nowhere;
	// the master serves them, on a port of its own.
	MetricsPath string
	// Auth is put around what serves the metrics at MetricsPath, in Handler and in ListenAndServe; nil for nothing.
	Auth func(http.Handler) http.Handler
}

// defaultBuckets are client_python's.
var defaultBuckets = []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}

// sizeBuckets go from 256 B to 64 MiB.
var sizeBuckets = prometheus.ExponentialBuckets(256, 4, 10)

// complete returns the options with what their zero values stand for, or what is wrong with them.
func (o Options) complete() (Options, error) {
	switch {
	case o.GroupBy.Label == "" && o.GroupBy.Value == nil:
		o.GroupBy = ByRoute
	case o.GroupBy.Label == "":
		return o, errors.New("GroupBy has a function, and no label")
	case o.GroupBy.Value == nil:
		return o, fmt.Errorf("GroupBy has the label %q, and no function", o.GroupBy.Label)
	}
	if !(o.NativeFactor > 1) && o.NativeFactor != 0 {
		return o, fmt.Errorf("a NativeFactor of %v: it must be above 1", o.NativeFactor)
	}
	if o.Buckets == nil {
		o.Buckets = defaultBuckets
	}
	if o.MetricsPath != "" && o.MetricsPath[0] != '/' {
		return o, fmt.Errorf("MetricsPath %q does not begin with a slash", o.MetricsPath)
	}
	excluded := make([]*regexp.Regexp, len(o.ExcludedPaths))
	for i, p := range o.ExcludedPaths {
		if p == nil {
			return o, errors.New("ExcludedPaths has a nil")
		}
		anchored, err := regexp.Compile(`\A(?:` + p.String() + `)`)
		if err != nil {
			return o, fmt.Errorf("ExcludedPaths: %w", err)
		}
		excluded[i] = anchored
	}
	o.ExcludedPaths = excluded
	o.Labels = slices.Clone(o.Labels)
	return o, checkNames(o.Labels)
}

// checkNames returns an error for a label that comes twice.
func checkNames(labels []Label) error {
	for i, l := range labels {
		if slices.ContainsFunc(labels[:i], func(other Label) bool { return other.Name == l.Name }) {
			return fmt.Errorf("the label %q comes twice", l.Name)
		}
	}
	return nil
}
