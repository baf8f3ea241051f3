package fasthttpmetrics

import (
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/onescrape/onescrape/integration/frameworktest"
)

func TestWrap(t *testing.T) {
	app := frameworktest.New()
	done := func(ctx *fasthttp.RequestCtx) { ctx.WriteString("done") }
	tracked := func(h fasthttp.RequestHandler) fasthttp.RequestHandler {
		return Track(app.Counter, Track(app.Gauge, h))
	}
	job := Route("/job/{kind}", tracked(done))
	skip := tracked(func(ctx *fasthttp.RequestCtx) {
		Of(ctx).DoNotTrack()
		done(ctx)
	})
	none := tracked(func(ctx *fasthttp.RequestCtx) {
		Of(ctx).ExcludeAll()
		done(ctx)
	})
	handler := Wrap(app.Metrics, func(ctx *fasthttp.RequestCtx) {
		switch path := string(ctx.Path()); {
		case strings.HasPrefix(path, "/job/"):
			job(ctx)
		case path == "/skip":
			skip(ctx)
		case path == "/none":
			none(ctx)
		case path == "/status/418":
			Route(path, func(ctx *fasthttp.RequestCtx) { ctx.SetStatusCode(418) })(ctx)
		case path == "/fail":
			Route(path, func(ctx *fasthttp.RequestCtx) { ctx.Error("failed", 500) })(ctx)
		case path == "/panic":
			Route(path, func(*fasthttp.RequestCtx) { panic("x") })(ctx)
		default:
			ctx.NotFound()
		}
	})
	s := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
		defer func() { // for fasthttp itself does not recover
			if recover() != nil {
				ctx.Error("panicked", 500)
			}
		}()
		handler(ctx)
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go s.Serve(l)
	defer s.Shutdown()
	app.URL = "http://" + l.Addr().String()
	app.Conform(t, "/job/{kind}", true)
}
