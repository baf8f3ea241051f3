package fibermetrics

import (
	"errors"
	"net"
	"testing"

	"github.com/gofiber/fiber/v3"
	recoverer "github.com/gofiber/fiber/v3/middleware/recover"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/integration/frameworktest"
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
