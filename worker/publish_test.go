package worker

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/stretchr/testify/require"
)

// What a publishing costs is what it takes of a core, not how long it waits.
func TestCost(t *testing.T) {
	require.Less(t, cost(func() {
		<-time.After(200 * time.Millisecond) // as a collector that asks another machine does
	}), 200*time.Millisecond)
	require.Positive(t, cost(func() {
		for n, began := 0, processorTime(); processorTime() == began; n++ {
			_ = strconv.Itoa(n)
		}
	}))
}

// BenchmarkExport is one publishing; peer=client_golang is the Gather in it alone.
func BenchmarkExport(b *testing.B) {
	for name, g := range map[string]prometheus.Gatherer{
		"default registry": prometheus.DefaultGatherer,
		"10000 series":     manySeries(10_000),
	} {
		b.Run(name, func(b *testing.B) {
			b.Run("peer=client_golang", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_, err := g.Gather()
					require.NoError(b, err)
				}
			})
			b.Run("peer=onescrape", func(b *testing.B) {
				r := inStore(b)
				mustExport(b, r, g, ExportOptions{})
				b.ReportAllocs()
				for b.Loop() {
					publishNow(r)
				}
			})
		})
	}
}

// manySeries returns a registry with n counters of three labels.
func manySeries(n int) prometheus.Gatherer {
	reg := prometheus.NewRegistry()
	c := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{Name: "http_requests_total"}, []string{"method", "path", "code"})
	for i := range n {
		c.WithLabelValues([]string{"GET", "POST"}[i%2], fmt.Sprintf("/api/v1/things/%d", i/2), "200").Inc()
	}
	return reg
}
