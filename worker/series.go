package worker

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/onescrape/onescrape/shmstore"
)

// series is one set of label values of one definition, and where its value is. It is part of every handle: the handle
// is reachable for exactly as long as somebody can write to the series.
type series struct {
	// cells is the first of the words that hold the value: in the process's file or in its memory. It changes when the
	// series moves from one to the other, see move.go, and never to the words of another series.
	cells atomic.Pointer[uint64]

	hash    uint64   // of values
	values  []string // of the variable labels, in the order in which they were declared
	def     *definition
	metric  prometheus.Metric // the handle that this is part of
	created time.Time

	exemplars atomic.Pointer[exemplars] // nil until there is one

	// Protected by the registry's lock.
	stored   *shmstore.Series // nil while it is in process memory
	overflow bool             // is in process memory because the file had no space for it
}

// Desc returns the descriptor, the same for all series of a definition. It implements prometheus.Metric.
func (s *series) Desc() *prometheus.Desc { return s.def.desc }

// Describe implements prometheus.Collector.
func (s *series) Describe(ch chan<- *prometheus.Desc) { ch <- s.def.desc }

// Collect implements prometheus.Collector.
func (s *series) Collect(ch chan<- prometheus.Metric) { ch <- s.metric }

// memoryCells returns n words of process memory that share no cache line with another series'.
func memoryCells(n int) []uint64 {
	const line = 8
	return make([]uint64, (n+line-1)/line*line)[:n]
}
