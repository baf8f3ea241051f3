package worker

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"
)

// NewInfo returns a gauge that is always 1 and says something with its labels, such as the version that runs: labels are
// added to opts.ConstLabels and go before them. Its mode is LiveMax, so of the workers of one release there is one
// series, and it goes when the last of them does: one that stayed would be a second match for every join with it. It
// panics and returns the same gauge again as NewGauge does.
func NewInfo(opts prometheus.GaugeOpts, labels prometheus.Labels) *Gauge {
	return process.newInfo(opts, labels)
}

func (r *registry) newInfo(opts prometheus.GaugeOpts, labels prometheus.Labels) *Gauge {
	constant := make(prometheus.Labels, len(opts.ConstLabels)+len(labels))
	maps.Copy(constant, opts.ConstLabels)
	maps.Copy(constant, labels)
	opts.ConstLabels = constant
	g := r.newGauge(opts, LiveMax)
	g.Set(1)
	return g
}
