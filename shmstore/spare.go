package shmstore

import "sync"

// spare is memory of readers that a View has closed, for those that it has opened at the same time: after a rollout these
// have as many series, and memory that the kernel has still to hand out takes longer than to read them. A nil spare has
// none and takes none.
type spare struct {
	mu      sync.Mutex
	series  [][]SeriesInfo
	records [][]record
}

// give takes what a reader has, which is about to be closed.
func (s *spare) give(r *Reader) {
	if s != nil && cap(r.series) > 0 {
		s.series, s.records = append(s.series, r.series[:0]), append(s.records, r.records[:0])
		r.series, r.records = nil, nil
	}
}

// take returns memory for n series; nil when there is none that large.
func (s *spare) take(n int) (series []SeriesInfo, records []record) {
	if s == nil {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.series {
		if cap(s.series[i]) < n || cap(s.records[i]) < n {
			continue
		}
		series, records = s.series[i], s.records[i]
		last := len(s.series) - 1
		s.series[i], s.records[i] = s.series[last], s.records[last]
		s.series[last], s.records[last] = nil, nil
		s.series, s.records = s.series[:last], s.records[:last]
		break
	}
	return series, records
}

// drop leaves what nobody took to the garbage collector.
func (s *spare) drop() { s.series, s.records = nil, nil }
