// Package logqueue keeps the log of a server from stopping it. Lines wait in a bounded queue, and a goroutine writes
// them: a log that nobody reads costs lines, never a goroutine of the caller. The first line after a gap says how many
// lines were dropped.
//
// A process has one queue for all its logs, so that its memory is bounded whatever is logged.
package logqueue

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// capacity is how many bytes of lines may wait.
	capacity = 1 << 20
	// reserved is the part of capacity that only lines of level WARN and above may use: a flood of other lines must not
	// erase the line that says why a process ends.
	reserved = capacity / 4
	// LastWords is how long a process that ends, or executes another program, should Flush.
	LastWords = time.Second
)

// entry is a line that waits.
type entry struct {
	handler slog.Handler
	record  slog.Record
	size    int
	gap     int // how many lines were dropped between the line before and this one
}

// queue is a bounded list of lines. Its methods may be called by several goroutines at once.
type queue struct {
	mu      sync.Mutex // guards everything below
	waiting []entry
	bytes   int
	gap     int           // lines dropped since the last one that was accepted
	last    slog.Handler  // of the line that was written last
	total   uint64        // lines dropped since the process started
	ended   chan struct{} // closed when the writing goroutine ends; nil: there is none
}

// process is the queue of this process.
var process queue

// Dropped returns how many lines this process has dropped.
func Dropped() uint64 { return process.dropped() }

// Flush waits until all lines are written, or until the timeout is over. It returns how many are still waiting.
func Flush(timeout time.Duration) (left int) { return process.flush(timeout) }

// put adds a line, or drops it when the queue is full. It never waits for the log.
func (q *queue) put(h slog.Handler, r slog.Record, size int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	limit := capacity
	if r.Level < slog.LevelWarn {
		limit -= reserved
	}
	if q.bytes+size > limit {
		q.gap++
		q.total++
		return
	}
	q.waiting = append(q.waiting, entry{handler: h, record: r, size: size, gap: q.gap})
	q.bytes += size
	q.gap = 0
	if q.ended == nil {
		q.ended = make(chan struct{})
		go q.write(q.ended)
	}
}

// write hands the lines to their handlers until none is left.
func (q *queue) write(ended chan struct{}) {
	defer close(ended)
	for {
		e, ok := q.take()
		if !ok {
			return
		}
		if e.gap > 0 {
			e.handler.Handle(context.Background(), gapRecord(e.gap))
		}
		if e.size > 0 {
			e.handler.Handle(context.Background(), e.record)
		}
		q.written(e)
	}
}

// take returns the next line. A gap that no line has followed yet is an entry without a line.
func (q *queue) take() (e entry, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case len(q.waiting) > 0:
		e = q.waiting[0]
		q.waiting[0] = entry{}
		q.waiting = q.waiting[1:]
		return e, true
	case q.gap > 0:
		e = entry{handler: q.last, gap: q.gap}
		q.gap = 0
		return e, true
	}
	q.waiting, q.last, q.ended = nil, nil, nil
	return entry{}, false
}

// written gives back the space of a line. Until then the line counts as waiting.
func (q *queue) written(e entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= e.size
	q.last = e.handler
}

func (q *queue) dropped() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.total
}

// state returns how many lines are not written yet, and what is closed when none is left; nil: none is left.
func (q *queue) state() (left int, ended <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended == nil {
		return 0, nil
	}
	return max(1, len(q.waiting)), q.ended
}

func (q *queue) flush(timeout time.Duration) (left int) {
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	for {
		left, ended := q.state()
		if ended == nil {
			return 0
		}
		select {
		case <-ended:
		case <-limit.C:
			return left
		}
	}
}

// gapRecord is the line that stands where lines were dropped.
func gapRecord(lines int) slog.Record {
	r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines are missing here: the log was not read in time", 0)
	r.AddAttrs(slog.Int("dropped", lines))
	return r
}
