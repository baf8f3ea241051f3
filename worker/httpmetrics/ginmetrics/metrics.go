// Package ginmetrics puts httpmetrics into gin:
//
//	engine := gin.New()
//	engine.Use(gin.Logger(), gin.Recovery(), ginmetrics.Middleware(metrics))
//
// The route is gin's FullPath. Middleware that recovers comes before it, so that a panic is counted before it is one no
// more. Handlers of net/http (gin.WrapH) may be wrapped in a Metric, DoNotTrack and ExcludeAll as they are.
package ginmetrics

import (
	"bufio"
	"net"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/onescrape/onescrape/worker/httpmetrics"
)

// Middleware measures every request that gets to it.
func Middleware(m *httpmetrics.Metrics) gin.HandlerFunc {
	return func(c *gin.Context) {
		w := &writer{ResponseWriter: c.Writer}
		e := &w.exchange
		e.Request, e.Method, e.Path, e.Route = c.Request, c.Request.Method, c.Request.URL.Path, c.FullPath()
		e.RequestSize = c.Request.ContentLength
		w.end = m.Begin(e)
		c.Writer = w
		defer func() {
			recovered := recover()
			if w.Written() || recovered == nil {
				e.Status, e.ResponseSize = w.Status(), int64(max(w.Size(), 0))
			}
			w.end.Done(recovered)
		}()
		c.Next()
	}
}

// Of returns the exchange of a request, for its methods DoNotTrack and ExcludeAll; nil without the Middleware.
func Of(c *gin.Context, m *httpmetrics.Metrics) *httpmetrics.Exchange { return m.Of(c.Writer) }

// Track puts a metric around the handlers that come after it.
func Track(m *httpmetrics.Metrics, r *httpmetrics.Metric) gin.HandlerFunc {
	r.Initialize()
	return func(c *gin.Context) {
		defer r.Begin(Of(c, m)).End()
		c.Next()
	}
}

// writer says when the status line is written.
type writer struct {
	gin.ResponseWriter
	exchange httpmetrics.Exchange
	end      httpmetrics.End
}

// Exchange is how Metrics.Of finds it.
func (w *writer) Exchange() *httpmetrics.Exchange { return &w.exchange }

func (w *writer) sent(status int) {
	if !w.Written() {
		w.exchange.Status = status
		w.end.Sent()
	}
}

func (w *writer) WriteHeaderNow() {
	w.sent(w.Status())
	w.ResponseWriter.WriteHeaderNow()
}

func (w *writer) Write(b []byte) (int, error) {
	w.sent(w.Status())
	return w.ResponseWriter.Write(b)
}

func (w *writer) WriteString(s string) (int, error) {
	w.sent(w.Status())
	return w.ResponseWriter.WriteString(s)
}

func (w *writer) Flush() {
	w.sent(w.Status())
	w.ResponseWriter.Flush()
}

func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	written := w.Written()
	conn, rw, err := w.ResponseWriter.Hijack()
	if err == nil && !written {
		w.exchange.Status = http.StatusSwitchingProtocols
		w.end.Sent()
	}
	return conn, rw, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
