package echometrics

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/integration/frameworktest"
)

func TestMiddleware(t *testing.T) {
	app := frameworktest.New()
	e := echo.New()
	e.Logger.SetOutput(io.Discard)
	e.Use(middleware.Recover(), Middleware(app.Metrics))
	done := func(c echo.Context) error { return c.String(200, "done") }
	tracked := []echo.MiddlewareFunc{Track(app.Metrics, app.Counter), Track(app.Metrics, app.Gauge)}
	e.GET("/job/:kind", done, tracked...)
	e.GET("/skip", func(c echo.Context) error {
		Of(c, app.Metrics).DoNotTrack()
		return done(c)
	}, tracked...)
	e.GET("/none", echo.WrapHandler(app.Metrics.ExcludeAll(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "done")
	}))), tracked...)
	e.GET("/status/418", func(c echo.Context) error { return c.NoContent(418) })
	e.GET("/fail", func(echo.Context) error { return errors.New("failed") })
	e.GET("/panic", func(echo.Context) error { panic("x") })
	release := make(chan bool)
	e.GET("/stream", func(c echo.Context) error {
		c.Response().WriteHeader(202)
		c.Response().Flush()
		<-release
		return nil
	})
	e.GET("/upgrade", func(c echo.Context) error {
		conn, _, err := c.Response().Hijack()
		require.NoError(t, err)
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		return conn.Close()
	})
	s := httptest.NewServer(e)
	defer s.Close()
	app.URL = s.URL
	app.Conform(t, "/job/:kind", true)

	// Counted before the first byte leaves, and when the connection is taken over.
	resp, err := http.Get(s.URL + "/stream")
	require.NoError(t, err)
	assert.Equal(t, 1.0, frameworktest.Sum(t, "app_http_request_total", "status", "202"))
	assert.Equal(t, 1.0, frameworktest.Sum(t, "app_http_requests_in_flight"))
	close(release)
	resp.Body.Close()
	resp, err = http.Get(s.URL + "/upgrade")
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, 1.0, frameworktest.Sum(t, "app_http_request_total", "status", "101"))
}
