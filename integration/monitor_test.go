package integration

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// monitor scrapes an endpoint 20 times a second and holds every scrape against the one before: no value that must rise
// may have fallen or gone, and no histogram may contradict itself.
type monitor struct {
	url  string
	opts monitorOptions

	stopping chan struct{}
	done     sync.WaitGroup
	last     map[string]float64
	scrapes  int
	wrong    []string
}

// monitorOptions say what a monitor lets pass. The zero value lets nothing pass.
type monitorOptions struct {
	// Errors are expected: the process with the endpoint is killed now and then.
	Errors bool
	// Ignore are prefixes of names of metrics that may fall.
	Ignore []string
}

func startMonitor(url string, opts monitorOptions) *monitor {
	m := &monitor{url: url, opts: opts, stopping: make(chan struct{})}
	m.done.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			m.scrape()
			select {
			case <-m.stopping:
				m.scrape() // the end counts too
				return
			case <-tick.C:
			}
		}
	})
	return m
}

func (m *monitor) scrape() {
	f, err := scrape(m.url)
	if err != nil {
		if !m.opts.Errors {
			m.note("%v", err)
		}
		return
	}
	m.scrapes++
	values, broken := f.rising()
	m.wrong = append(m.wrong, broken...)
	for key, before := range m.last {
		if m.ignored(key) {
			continue
		}
		if now, ok := values[key]; !ok {
			m.note("%s was %v and has gone", key, before)
		} else if now < before {
			m.note("%s fell from %v to %v", key, before, now)
		}
	}
	m.last = values
}

func (m *monitor) ignored(key string) bool {
	for _, prefix := range m.opts.Ignore {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

func (m *monitor) note(format string, args ...any) {
	m.wrong = append(m.wrong, fmt.Sprintf("%s scrape %d: ", time.Now().Format("15:04:05.000"), m.scrapes)+
		fmt.Sprintf(format, args...))
}

// stop ends the monitor and fails the test for everything that was wrong.
func (m *monitor) stop(t *testing.T) {
	t.Helper()
	close(m.stopping)
	m.done.Wait()
	require.Greater(t, m.scrapes, 1, "%s was never scraped", m.url)
	if len(m.wrong) > 30 {
		m.wrong = append(m.wrong[:30], fmt.Sprintf("and %d more", len(m.wrong)-30))
	}
	require.Empty(t, m.wrong, "%s, %d scrapes", m.url, m.scrapes)
}
