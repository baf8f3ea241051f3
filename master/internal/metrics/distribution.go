package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// distribution is a histogram; Counts has one more element than there are bounds.
type distribution struct {
	Counts []uint64 `json:"counts,omitempty"`
	Sum    float64  `json:"sum,omitempty"`
}

func (d *distribution) observe(bounds []float64, v float64) {
	if len(d.Counts) != len(bounds)+1 {
		*d = distribution{Counts: make([]uint64, len(bounds)+1)}
	}
	i := 0
	for i < len(bounds) && v > bounds[i] {
		i++
	}
	d.Counts[i]++
	d.Sum += v
}

func (d *distribution) clone() *distribution {
	return &distribution{Counts: slices.Clone(d.Counts), Sum: d.Sum}
}

func (d *distribution) metric(desc *prometheus.Desc, bounds []float64, labels ...string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(bounds))
	var n uint64
	for i, b := range bounds {
		if i < len(d.Counts) {
			n += d.Counts[i]
		}
		buckets[b] = n
	}
	if len(d.Counts) == len(bounds)+1 {
		n += d.Counts[len(bounds)]
	}
	return prometheus.MustNewConstHistogram(desc, n, d.Sum, buckets, labels...)
}
