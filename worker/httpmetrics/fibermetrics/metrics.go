// Package fibermetrics puts httpmetrics into Fiber:
//
//	app := fiber.New()
//	app.Use(recoverer.New(), fibermetrics.Middleware(metrics))
//
// The route is the path that was registered. Middleware that recovers comes before it, so that a panic is counted
// before it is one no more; without any a panic ends the process, and what was counted stays. An answer is written when
// all handlers have returned, so it is counted then. What a body stream still takes to write is not part of the
// duration. A handler that Fiber's timeout gives up is counted as what the client gets; Track comes before that and not
// inside, because it runs the handler in another goroutine.
package fibermetrics

import (
	"sync"

	"github.com/gofiber/fiber/v3"
	"github.com/valyala/fasthttp"

	"github.com/onescrape/onescrape/worker/httpmetrics"
)

var exchanges = sync.Pool{New: func() any { return new(httpmetrics.Exchange) }}

// key is what an exchange is known by in a request's locals.
type key struct{}

// Middleware measures every request that gets to it. An error of the handler is turned into an answer, by the app's own
// error handler, because only the answer has a status.
func Middleware(m *httpmetrics.Metrics) fiber.Handler {
	return func(c fiber.Ctx) error {
		e := exchanges.Get().(*httpmetrics.Exchange)
		e.Method, e.Path, e.Route = c.Method(), c.Path(), ""
		e.RequestSize, e.ResponseSize, e.Status = int64(c.Request().Header.ContentLength()), 0, 0
		end := m.Begin(e)
		c.Locals(key{}, e)
		defer func() {
			recovered := recover()
			if c.Matched() {
				e.Route = c.FullPath()
			}
			if given := c.RequestCtx().LastTimeoutErrorResponse(); given != nil {
				// The handler still runs, with its response and e, neither of which is used again.
				e.Status, e.ResponseSize = given.StatusCode(), size(given)
				end.Done(recovered)
				return
			}
			if recovered == nil {
				e.Status, e.ResponseSize = status(c), size(c.Response())
			}
			end.Done(recovered)
			c.RequestCtx().RemoveUserValue(key{})
			exchanges.Put(e)
		}()
		if err := c.Next(); err != nil && c.RequestCtx().LastTimeoutErrorResponse() == nil {
			if err := c.App().ErrorHandler(c, err); err != nil {
				c.Status(fiber.StatusInternalServerError)
			}
		}
		return nil
	}
}

// Of returns the exchange of a request, for its methods DoNotTrack and ExcludeAll; nil without the Middleware.
func Of(c fiber.Ctx) *httpmetrics.Exchange {
	e, _ := c.Locals(key{}).(*httpmetrics.Exchange)
	return e
}

// Track puts a metric around the handlers that come after it.
func Track(r *httpmetrics.Metric) fiber.Handler {
	r.Initialize()
	return func(c fiber.Ctx) error {
		defer r.Begin(Of(c)).End()
		return c.Next()
	}
}

func status(c fiber.Ctx) int {
	if c.RequestCtx().Hijacked() {
		return fiber.StatusSwitchingProtocols
	}
	return c.Response().StatusCode()
}

// size leaves a stream to who reads it.
func size(r *fasthttp.Response) int64 {
	if r.IsBodyStream() {
		return int64(max(r.Header.ContentLength(), 0))
	}
	return int64(len(r.Body()))
}
