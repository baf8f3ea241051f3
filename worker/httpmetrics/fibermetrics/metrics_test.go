package fibermetrics

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/gofiber/fiber/v3"
	recoverer "github.com/gofiber/fiber/v3/middleware/recover"
	"github.com/gofiber/fiber/v3/middleware/timeout"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/onescrape/onescrape/integration/frameworktest"
	"github.com/onescrape/onescrape/worker/httpmetrics"
)

func TestMiddleware(t *testing.T) {
	app := frameworktest.New()
	f := fiber.New()
	f.Use(recoverer.New(), Middleware(app.Metrics))
	done := func(c fiber.Ctx) error { return c.SendString("done") }
	counted, gauged := Track(app.Counter), Track(app.Gauge)
	f.Get("/job/:kind", counted, gauged, done)
	f.Get("/skip", counted, gauged, func(c fiber.Ctx) error {
		Of(c).DoNotTrack()
		return done(c)
	})
	f.Get("/none", counted, gauged, func(c fiber.Ctx) error {
		Of(c).ExcludeAll()
		return done(c)
	})
	f.Get("/status/418", func(c fiber.Ctx) error { return c.SendStatus(418) })
	f.Get("/fail", func(fiber.Ctx) error { return errors.New("failed") })
	f.Get("/panic", func(fiber.Ctx) error { panic("x") })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go f.Listener(l, fiber.ListenConfig{DisableStartupMessage: true})
	defer f.Shutdown()
	app.URL = "http://" + l.Addr().String()
	app.Conform(t, "/job/:kind", true)
}

// A handler that took too long is counted as what the client got, and what it does when it goes on is nothing to the
// requests that follow.
func TestTimeout(t *testing.T) {
	m := httpmetrics.Must(httpmetrics.New(httpmetrics.Options{Prefix: "slow"}))
	tracked := Track(httpmetrics.Must(m.Gauge(prometheus.GaugeOpts{Name: "slow_in_progress"})))
	release, over, began, finish := make(chan bool), make(chan bool), make(chan bool), make(chan bool)
	app := fiber.New()
	app.Use(Middleware(m))
	app.Get("/slow", tracked, timeout.New(func(c fiber.Ctx) error {
		<-release
		Of(c).ExcludeAll()
		close(over)
		return nil
	}, timeout.Config{Timeout: 10 * time.Millisecond}))
	app.Get("/quick", tracked, func(fiber.Ctx) error {
		close(began)
		<-finish
		return nil
	})
	l := fasthttputil.NewInmemoryListener()
	go app.Listener(l, fiber.ListenConfig{DisableStartupMessage: true})
	defer app.Shutdown()
	client := &fasthttp.Client{Dial: func(string) (net.Conn, error) { return l.Dial() }}

	code, _, err := client.Get(nil, "http://slow/slow")
	require.NoError(t, err)
	require.Equal(t, fiber.StatusRequestTimeout, code)
	assert.Equal(t, 1.0, frameworktest.Sum(t, "slow_http_request_total", "status", "408"))
	durations := frameworktest.Count(t, "slow_http_request_duration_seconds", "path", "/slow", "status", "408")
	assert.EqualValues(t, 1, durations)
	assert.Zero(t, frameworktest.Sum(t, "slow_in_progress"))

	answered := make(chan error)
	go func() {
		_, _, err := client.Get(nil, "http://slow/quick")
		answered <- err
	}()
	<-began
	close(release)
	<-over
	assert.Equal(t, 1.0, frameworktest.Sum(t, "slow_in_progress"))
	close(finish)
	require.NoError(t, <-answered)
	assert.Equal(t, 1.0, frameworktest.Sum(t, "slow_http_request_total", "status", "200"))
}
