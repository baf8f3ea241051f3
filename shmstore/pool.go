package shmstore

import "sync"

// pool keeps the memory of readers that a View closes, for readers that it opens at the same time. After a rollout the new
// files have as many series as the old ones, and new memory from the kernel costs more than reading them. A nil pool is
// empty and keeps nothing.
type pool struct {
	mu      sync.Mutex
	series  [][]SeriesInfo
	records [][]record
}

// give takes what a reader has, which is about to be closed.
func (s *pool) give(r *Reader) {
	if s != nil && cap(r.series) > 0 {
		s.series, s.records = append(s.series, r.series[:0]), append(s.records, r.records[:0])
		r.series, r.records = nil, nil
	}
}

// take returns memory for n series; nil when there is none that large.
func (s *pool) take(n int) (series []SeriesInfo, records []record) {
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
func (s *pool) drop() { s.series, s.records = nil, nil }
