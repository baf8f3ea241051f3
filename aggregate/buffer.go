package aggregate

import (
	"sync"
	"sync/atomic"
)

// buffer is where an answer is put together. Buffers are used again, because an answer is the only thing in a scrape
// that is as large as the server has series.
type buffer struct{ bytes []byte }

type bufferPool struct {
	pool sync.Pool
	size atomic.Int64 // of the one that was given back last
}

var buffers bufferPool

// take returns an empty buffer.
func (p *bufferPool) take() *buffer {
	if b, ok := p.pool.Get().(*buffer); ok {
		b.bytes = b.bytes[:0]
		return b
	}
	// A little more, so that it does not grow by a copy at once.
	size := p.size.Load()
	return &buffer{make([]byte, 0, size+size/16)}
}

// give takes a buffer back that nobody uses any more.
func (p *bufferPool) give(b *buffer) {
	p.size.Store(int64(len(b.bytes)))
	p.pool.Put(b)
}
