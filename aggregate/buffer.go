package aggregate

import "sync"

// buffer is where an answer is put together. Buffers are used again, because an answer is the only thing in a scrape
// that is as large as the server has series.
type buffer struct{ bytes []byte }

type bufferPool struct{ pool sync.Pool }

var buffers bufferPool

// take returns an empty buffer.
func (p *bufferPool) take() *buffer {
	if b, ok := p.pool.Get().(*buffer); ok {
		b.bytes = b.bytes[:0]
		return b
	}
	return new(buffer)
}

// give takes a buffer back that nobody uses any more.
func (p *bufferPool) give(b *buffer) { p.pool.Put(b) }
