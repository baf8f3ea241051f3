package fasthttpmetrics

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/onescrape/onescrape/integration/frameworktest"
	"github.com/onescrape/onescrape/worker/httpmetrics"
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

// A handler that took too long is counted as what the client got, and what it does when it goes on is nothing to the
// requests that follow.
func TestTimeout(t *testing.T) {
	m := httpmetrics.Must(httpmetrics.New(httpmetrics.Options{Prefix: "slow"}))
	gauge := httpmetrics.Must(m.Gauge(prometheus.GaugeOpts{Name: "slow_in_progress"}))
	release, over, began, finish := make(chan bool), make(chan bool), make(chan bool), make(chan bool)
	slow := Route("/slow", Track(gauge, fasthttp.TimeoutWithCodeHandler(func(ctx *fasthttp.RequestCtx) {
		<-release
		Of(ctx).ExcludeAll()
		close(over)
	}, 10*time.Millisecond, "too long", fasthttp.StatusServiceUnavailable)))
	quick := Track(gauge, func(*fasthttp.RequestCtx) {
		close(began)
		<-finish
	})
	l := fasthttputil.NewInmemoryListener()
	s := &fasthttp.Server{Handler: Wrap(m, func(ctx *fasthttp.RequestCtx) {
		if string(ctx.Path()) == "/slow" {
			slow(ctx)
		} else {
			quick(ctx)
		}
	})}
	go s.Serve(l)
	defer s.Shutdown()
	client := &fasthttp.Client{Dial: func(string) (net.Conn, error) { return l.Dial() }}

	code, body, err := client.Get(nil, "http://slow/slow")
	require.NoError(t, err)
	require.Equal(t, fasthttp.StatusServiceUnavailable, code)
	require.Equal(t, "too long", string(body))
	assert.Equal(t, 1.0, frameworktest.Sum(t, "slow_http_request_total", "status", "503"))
	durations := frameworktest.Count(t, "slow_http_request_duration_seconds", "path", "/slow", "status", "503")
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
