package ginmetrics

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/integration/frameworktest"
)

func TestMiddleware(t *testing.T) {
	gin.SetMode(gin.ReleaseMode)
	app := frameworktest.New()
	engine := gin.New()
	engine.Use(gin.CustomRecoveryWithWriter(io.Discard, func(c *gin.Context, _ any) { c.AbortWithStatus(500) }),
		Middleware(app.Metrics))
	tracked := engine.Group("/", Track(app.Metrics, app.Counter), Track(app.Metrics, app.Gauge))
	done := func(c *gin.Context) { c.String(200, "done") }
	tracked.GET("/job/:kind", done)
	tracked.GET("/skip", func(c *gin.Context) {
		Of(c, app.Metrics).DoNotTrack()
		done(c)
	})
	tracked.GET("/none", gin.WrapH(app.Metrics.ExcludeAll(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "done")
	}))))
	engine.GET("/status/418", func(c *gin.Context) {
		c.Status(500) // gin takes the last word before anything is written
		c.Status(418)
	})
	engine.GET("/fail", func(c *gin.Context) { c.AbortWithError(500, errors.New("failed")) })
	engine.GET("/panic", func(*gin.Context) { panic("x") })
	release := make(chan bool)
	engine.GET("/stream", func(c *gin.Context) {
		c.Status(202)
		c.Writer.Flush()
		<-release
	})
	engine.GET("/upgrade", func(c *gin.Context) {
		conn, _, err := http.NewResponseController(c.Writer).Hijack()
		require.NoError(t, err)
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		conn.Close()
	})
	s := httptest.NewServer(engine)
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
	assert.Eventually(t, func() bool {
		return frameworktest.Count(t, "app_http_request_duration_seconds", "path", "/upgrade", "status", "101") == 1
	}, time.Minute, 10*time.Millisecond, "the duration has the status that was counted")
}
