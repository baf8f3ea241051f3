package worker

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Conditions are awaited that long, and looked at that often.
const (
	longWait = 30 * time.Second
	tick     = time.Millisecond
)

// inMemory returns a registry that has no store.
func inMemory(tb testing.TB) *registry {
	r := newRegistry(nil)
	r.log = slog.New(slog.DiscardHandler)
	tb.Cleanup(func() { require.NoError(tb, r.detach()) })
	return r
}

// inStore returns a registry with a store of its own, in memory where the system has such a file system.
func inStore(tb testing.TB) *registry {
	r := inMemory(tb)
	require.NoError(tb, r.open(storeDir(tb), 0))
	return r
}

// storeDir returns the path of a store that is not there yet.
func storeDir(tb testing.TB) string {
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = os.TempDir()
	}
	dir, err := os.MkdirTemp(parent, "onescrape-test-")
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, os.RemoveAll(dir)) })
	return dir + "/store"
}

// places are where a registry's values can be; tests and benchmarks that run in each take it.
var places = []struct {
	name string
	make func(testing.TB) *registry
}{
	{"memory", inMemory},
	{"store", inStore},
}

// logBuffer collects what was logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// logTo makes the registry log into the buffer that it returns.
func (r *registry) logTo() *logBuffer {
	b := new(logBuffer)
	r.log = slog.New(slog.NewTextHandler(b, nil))
	return b
}

// contextOf returns a context that ends by itself.
func contextOf(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, cancel)
	return ctx
}
