// Package echometrics puts httpmetrics into echo:
//
//	e := echo.New()
//	e.Use(middleware.Recover(), echometrics.Middleware(metrics))
//
// The route is the path that was registered. Middleware that recovers comes before it, so that a panic is counted
// before it is one no more. Handlers of net/http (echo.WrapHandler) may be wrapped in a Metric, DoNotTrack and
// ExcludeAll as they are.
package echometrics

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/onescrape/onescrape/worker/httpmetrics"
)

// Middleware measures every request that gets to it. An error of the handler is turned into an answer, by echo's own
// error handler, because only the answer has a status.
func Middleware(m *httpmetrics.Metrics) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			under := c.Response().Writer
			defer func() { c.Response().Writer = under }()
			m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				c.Response().Writer = w
				if e := m.Of(w); e != nil {
					e.Route = c.Path()
				}
				if err := next(c); err != nil {
					c.Error(err)
				}
			})).ServeHTTP(under, c.Request())
			return nil
		}
	}
}

// Of returns the exchange of a request, for its methods DoNotTrack and ExcludeAll; nil without the Middleware.
func Of(c echo.Context, m *httpmetrics.Metrics) *httpmetrics.Exchange { return m.Of(c.Response()) }

// Track puts a metric around a handler.
func Track(m *httpmetrics.Metrics, r *httpmetrics.Metric) echo.MiddlewareFunc {
	r.Initialize()
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			defer r.Begin(Of(c, m)).End()
			return next(c)
		}
	}
}
