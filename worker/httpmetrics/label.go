package httpmetrics

import (
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// Label is a label of a metric: a constant, or computed for each request.
//
// Func is called for a counter when the status line is written, so it sees Status and not yet Duration, Panicked and
// the whole ResponseSize; for a gauge when the handler is about to be called, so it sees the request alone; for a
// histogram or summary when everything is over. It is called from several goroutines at once, and not more than once
// for each of these. A panic gives the value "error".
type Label struct {
	Name  string
	Value string                 // the constant; of no effect with Func
	Func  func(*Exchange) string // nil: the label is constant
	Limit int                    // distinct values in a process; any more are "other"; 0: 1,000; negative: no limit
}

const (
	defaultLimit = 1000
	// failed is the value of a label whose function panicked.
	failed = "error"
	// maxValue is the length to which a value is cut. It is longer than routes are, and keeps paths that somebody makes up
	// from filling the store.
	maxValue = 256
)

// label is a computed one, at work.
type label struct {
	name    string
	value   func(*Exchange) string
	limit   int // negative: none
	trouble *trouble

	mu   sync.Mutex
	seen map[string]struct{} // protected by mu
}

// of returns the value for an exchange as the function gives it.
func (l *label) of(e *Exchange) (value string) {
	defer func() {
		if recover() != nil {
			l.trouble.errors.WithLabelValues(l.name).Inc()
			value = failed
		}
	}()
	return l.value(e)
}

// admit returns what a value becomes: valid, not too long, and not one too many. The result is not part of what was
// given.
func (l *label) admit(value string) string {
	if len(value) > maxValue {
		end := maxValue
		for end > maxValue-utf8.UTFMax && !utf8.RuneStart(value[end]) {
			end--
		}
		value = value[:end]
	}
	value = strings.Clone(strings.ToValidUTF8(value, string(utf8.RuneError)))
	if l.limit < 0 || value == failed || value == other {
		return value
	}
	l.mu.Lock()
	_, ok := l.seen[value]
	if !ok && len(l.seen) < l.limit {
		l.seen[value] = struct{}{}
		ok = true
	}
	l.mu.Unlock()
	if !ok {
		l.trouble.overflows.WithLabelValues(l.name).Inc()
		return other
	}
	return value
}

// compile separates constant labels from computed ones.
func (m *Metrics) compile(labels []Label) (constant prometheus.Labels, computed []*label) {
	constant = prometheus.Labels{}
	for _, l := range labels {
		if l.Func == nil {
			constant[l.Name] = l.Value
			continue
		}
		limit := l.Limit
		if limit == 0 {
			limit = defaultLimit
		}
		computed = append(computed, m.newLabel(l.Name, l.Func, limit))
	}
	return constant, computed
}

func (m *Metrics) newLabel(name string, value func(*Exchange) string, limit int) *label {
	return &label{name: name, value: value, limit: limit, trouble: m.trouble, seen: make(map[string]struct{})}
}

// namesOf returns the names of computed labels.
func namesOf(labels []*label) (names []string) {
	for _, l := range labels {
		names = append(names, l.name)
	}
	return names
}
