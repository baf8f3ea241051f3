package logqueue

import (
	"context"
	"fmt"
	"log/slog"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxLine is about how long a line may become. A pipe takes a write of up to 4,096 bytes whole or not at all, so
	// lines of several processes in one pipe are not torn.
	maxLine = 4096
	// overhead is what a line has beside its message and attributes: the time, the level, quotes and the names of keys.
	overhead = 256
	// lineText is how much of maxLine is left for the message and the attributes.
	lineText = maxLine - overhead
	// cut marks a text that was longer.
	cut = "..."
)

// handler puts records into the queue of the process; inner formats and writes them later.
type handler struct {
	queue *queue
	inner slog.Handler
	used  int // by the attributes of WithAttrs, out of lineText
}

// Wrap returns a handler whose Handle never waits for h: lines go to h through the queue of the process. A handler that
// came from Wrap is returned as it is.
func Wrap(h slog.Handler) slog.Handler {
	if _, ok := h.(*handler); ok {
		return h
	}
	return &handler{queue: &process, inner: h}
}

// Logger returns the default logger, with the queue of the process before it.
func Logger() *slog.Logger { return slog.New(Wrap(slog.Default().Handler())) }

// Enabled implements slog.Handler.
func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.inner.Enabled(ctx, l) }

// Handle implements slog.Handler. It never fails: nobody could be told about an error of the log.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	b := budget{left: lineText - h.used}
	short := slog.NewRecord(r.Time, r.Level, b.text(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		short.AddAttrs(b.attr(a))
		return true
	})
	h.queue.put(h.inner, short, overhead+lineText-max(0, b.left))
	return nil
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	b := budget{left: lineText - h.used}
	short := make([]slog.Attr, 0, len(attrs))
	for _, a := range attrs {
		short = append(short, b.attr(a))
	}
	return &handler{queue: h.queue, inner: h.inner.WithAttrs(short), used: lineText - b.left}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{queue: h.queue, inner: h.inner.WithGroup(name), used: h.used + len(name)}
}

// budget is how many bytes of a line are still free.
type budget struct{ left int }

// attr returns a with its text cut to what is free. What changes later, or says its value when it is asked for it, is
// read now, because the line is written later.
func (b *budget) attr(a slog.Attr) slog.Attr {
	b.left -= len(a.Key) + 2
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindGroup:
		members := make([]slog.Attr, 0, len(v.Group()))
		for _, m := range v.Group() {
			members = append(members, b.attr(m))
		}
		v = slog.GroupValue(members...)
	case slog.KindString:
		v = slog.StringValue(b.text(v.String()))
	case slog.KindAny:
		v = b.any(v)
	default:
		b.left -= len(time.RFC3339Nano)
	}
	return slog.Attr{Key: a.Key, Value: v}
}

// any returns a value of a type that slog does not know. One whose text is too long becomes that text.
func (b *budget) any(v slog.Value) slog.Value {
	text := fmt.Sprint(v.Any())
	if short := b.text(text); short != text {
		return slog.StringValue(short)
	}
	return v
}

// text returns s, or the part of it that fits.
func (b *budget) text(s string) string {
	room := b.left
	for i, r := range s {
		if room -= quoted(r); room < len(cut) {
			b.left = 0
			return s[:i] + cut
		}
	}
	b.left = room
	return s
}

// quoted returns how many bytes a character takes at most in any of slog's formats.
func quoted(r rune) int {
	switch {
	case r == '"' || r == '\\':
		return 2
	case r == utf8.RuneError || r < ' ' || r == 0x7f:
		return len(`\u0000`)
	case !unicode.IsPrint(r):
		return len(`\U00000000`)
	}
	return utf8.RuneLen(r)
}
