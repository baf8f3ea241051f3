// Package fasthttpmetrics puts httpmetrics around handlers of fasthttp:
//
//	server := &fasthttp.Server{Handler: fasthttpmetrics.Wrap(metrics, router.Handler)}
//
// fasthttp has no router of its own: Route names the route of a handler. An answer is written when the handler has
// returned, so it is counted then. What a body stream still takes to write is not part of the duration. A handler that
// fasthttp.TimeoutHandler gives up is counted as what the client gets, if Wrap, Route and Track are around that and not
// inside: it runs it in another goroutine.
package fasthttpmetrics

import (
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/onescrape/onescrape/worker/httpmetrics"
)

var exchanges = sync.Pool{New: func() any { return new(httpmetrics.Exchange) }}

// key is what an exchange is known by in a request's context.
type key struct{}

// Wrap measures every request to h.
func Wrap(m *httpmetrics.Metrics, h fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		e := exchanges.Get().(*httpmetrics.Exchange)
		e.Method, e.Path, e.Route = string(ctx.Method()), string(ctx.Path()), ""
		e.RequestSize, e.ResponseSize, e.Status = int64(ctx.Request.Header.ContentLength()), 0, 0
		end := m.Begin(e)
		ctx.SetUserValue(key{}, e)
		defer func() {
			recovered := recover()
			if given := ctx.LastTimeoutErrorResponse(); given != nil {
				// The handler still runs, with ctx, its response and e, none of which is used again.
				e.Status, e.ResponseSize = given.StatusCode(), size(given)
				end.Done(recovered)
				return
			}
			if recovered == nil {
				e.Status, e.ResponseSize = status(ctx), size(&ctx.Response)
			}
			end.Done(recovered)
			ctx.RemoveUserValue(key{})
			exchanges.Put(e)
		}()
		h(ctx)
	}
}

// Route returns h with the name of its route.
func Route(pattern string, h fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if e := Of(ctx); e != nil {
			e.Route = pattern
		}
		h(ctx)
	}
}

// Of returns the exchange of a request, for its methods DoNotTrack and ExcludeAll; nil without Wrap.
func Of(ctx *fasthttp.RequestCtx) *httpmetrics.Exchange {
	e, _ := ctx.UserValue(key{}).(*httpmetrics.Exchange)
	return e
}

// Track returns h with a metric around it.
func Track(r *httpmetrics.Metric, h fasthttp.RequestHandler) fasthttp.RequestHandler {
	r.Initialize()
	return func(ctx *fasthttp.RequestCtx) {
		defer r.Begin(Of(ctx)).End()
		h(ctx)
	}
}

func status(ctx *fasthttp.RequestCtx) int {
	if ctx.Hijacked() {
		return fasthttp.StatusSwitchingProtocols
	}
	return ctx.Response.StatusCode()
}

// size leaves a stream to who reads it.
func size(r *fasthttp.Response) int64 {
	if r.IsBodyStream() {
		return int64(max(r.Header.ContentLength(), 0))
	}
	return int64(len(r.Body()))
}
