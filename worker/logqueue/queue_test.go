package logqueue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// blockedHandler is a log that nobody reads until it is opened.
type blockedHandler struct {
	slog.Handler
	open chan struct{}
}

func (h *blockedHandler) Handle(ctx context.Context, r slog.Record) error {
	<-h.open
	return h.Handler.Handle(ctx, r)
}

// newTestLog returns a logger with a queue of its own, the queue, and what was written.
func newTestLog(h func(io.Writer) slog.Handler) (*slog.Logger, *queue, *writes) {
	q, w := &queue{}, &writes{}
	return slog.New(&handler{queue: q, inner: h(w)}), q, w
}

// writes keeps each write apart.
type writes struct {
	mu    sync.Mutex
	lines []string
}

func (w *writes) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, string(b))
	return len(b), nil
}

func TestLinesWaitForTheLogInBoundedMemory(t *testing.T) {
	open := make(chan struct{})
	log, q, w := newTestLog(func(out io.Writer) slog.Handler {
		return &blockedHandler{slog.NewTextHandler(out, nil), open}
	})
	text := strings.Repeat("x", 1000)
	const lines = 5000
	for i := range lines {
		log.Info(text, "n", i)
	}
	assert.LessOrEqual(t, q.bytes, capacity-reserved)
	assert.Positive(t, q.flush(time.Millisecond), "what is left is said")
	dropped := int(q.dropped())
	assert.Greater(t, dropped, lines-capacity/1000)

	log.Error("the reason")
	assert.Equal(t, dropped, int(q.dropped()), "a quarter is for warnings and errors alone")
	for range lines {
		log.Error(text)
	}
	assert.LessOrEqual(t, q.bytes, capacity)
	close(open)
	require.Zero(t, q.flush(time.Minute))
	all := int(q.dropped())

	var said []string
	for _, l := range w.lines {
		if strings.Contains(l, "lines are missing here") {
			said = append(said, l)
		}
	}
	require.Len(t, said, 2, "one line a gap")
	assert.Contains(t, said[0], fmt.Sprintf("dropped=%d", dropped))
	assert.Contains(t, said[1], fmt.Sprintf("dropped=%d", all-dropped))
	assert.Equal(t, 2*lines+1+len(said)-all, len(w.lines))
	for i, l := range w.lines {
		if strings.Contains(l, "the reason") {
			assert.Equal(t, said[0], w.lines[i-1], "the gap stands where it is")
		}
	}
	assert.Equal(t, said[1], w.lines[len(w.lines)-1], "also when no line follows")
	log.Info("it goes on")
	require.Zero(t, q.flush(time.Minute))
	assert.Contains(t, w.lines[len(w.lines)-1], "it goes on")
}

// A line is one write of at most 4,096 bytes, in every format and whatever is in it.
func TestLineIsOneShortWrite(t *testing.T) {
	long := strings.Repeat("\x00\"\n\xff\u2028", 10_000)
	for name, h := range map[string]func(io.Writer) slog.Handler{
		"text": func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
		"JSON": func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			log, q, w := newTestLog(h)
			log.Info(long)
			log.Warn("message", "key", long, "other", 1)
			log.With("store", long).Info("message", "key", long)
			log.WithGroup("group").Error("message", "err", errors.New(long), slog.Group("g", "a", long))
			require.Zero(t, q.flush(time.Minute))
			require.Len(t, w.lines, 4)
			for _, l := range w.lines {
				assert.LessOrEqual(t, len(l), maxLine)
				assert.Equal(t, 1, strings.Count(l, "\n"))
				assert.Contains(t, l, cut)
				if name == "JSON" {
					assert.True(t, json.Valid([]byte(l)), l)
				}
			}
		})
	}
}

func TestShortLineIsAsTheHandlerWritesIt(t *testing.T) {
	var direct bytes.Buffer
	options := &slog.HandlerOptions{AddSource: true, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	log, q, w := newTestLog(func(out io.Writer) slog.Handler { return slog.NewTextHandler(out, options) })
	for _, l := range []*slog.Logger{slog.New(slog.NewTextHandler(&direct, options)), log} {
		l.With("a", 1).WithGroup("g").Warn("both", "err", os.ErrNotExist, "d", time.Second, "list", []int{1, 2},
			slog.Group("in", "b", true))
	}
	require.Zero(t, q.flush(time.Minute))
	assert.Equal(t, []string{direct.String()}, w.lines)
}

func TestWrapTwiceIsWrapOnce(t *testing.T) {
	h := Wrap(slog.Default().Handler())
	assert.Same(t, h, Wrap(h))
	derived := h.WithAttrs([]slog.Attr{slog.Int("a", 1)})
	assert.Same(t, derived, Wrap(derived))
}

// What a line says is read when it is logged, not when it is written.
type changing struct{ value string }

func (c *changing) LogValue() slog.Value { return slog.StringValue(c.value) }

func TestValuesAreReadAtOnce(t *testing.T) {
	open := make(chan struct{})
	log, q, w := newTestLog(func(out io.Writer) slog.Handler {
		return &blockedHandler{slog.NewTextHandler(out, nil), open}
	})
	c := &changing{"before"}
	log.Info("value", "c", c)
	c.value = "after"
	close(open)
	require.Zero(t, q.flush(time.Minute))
	assert.Contains(t, w.lines[0], "c=before")
}
