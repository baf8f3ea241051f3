package httpmetrics

import (
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
)

// What an adapter says of an answer when all is over may be less than what was counted: gin has 200 of a connection that
// was taken over, and the size of a body that a HEAD does not get.
func TestExchangeDone(t *testing.T) {
	prefix := fresh()
	m := Must(New(Options{Prefix: prefix, Sizes: true}))
	e := &Exchange{Method: http.MethodHead, Path: "/x", Route: "/x"}
	end := m.Begin(e)
	e.Status = http.StatusSwitchingProtocols
	end.Sent()
	e.Status, e.ResponseSize = http.StatusOK, 1000
	end.Done(nil)

	s := scraped(t).of(prefix + "_http_")
	assert.Equal(t, 1.0, s[sample("request_total", "method", "HEAD", "status", "101")])
	labels := []string{"method", "HEAD", "path", "/x", "status", "101"}
	assert.Equal(t, 1.0, s[sample("request_duration_seconds_count", labels...)])
	assert.Equal(t, 1.0, s[sample("response_size_bytes_count", labels...)])
	assert.Zero(t, s[sample("response_size_bytes_sum", labels...)])
}

// A handler that goes on when its request is over, because middleware gave it up, ends nothing of the request that has
// the exchange then.
func TestCallOutlivesExchange(t *testing.T) {
	prefix := fresh()
	m := Must(New(Options{Prefix: prefix}))
	gauge := Must(m.Gauge(prometheus.GaugeOpts{Name: prefix + "_in_progress"}))
	inProgress := func() float64 { return scraped(t)[prefix+"_in_progress{}"] }

	e := &Exchange{Method: http.MethodGet, Path: "/x"}
	end := m.Begin(e)
	late := gauge.Begin(e)
	end.Done(nil)
	assert.Zero(t, inProgress())

	end = m.Begin(e)
	assert.NotPanics(t, late.End, "the next request has no call yet")
	call := gauge.Begin(e)
	late.End()
	assert.Equal(t, 1.0, inProgress())
	call.End()
	assert.Zero(t, inProgress())
	end.Done(nil)
}
