package integration

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Connections on which nobody has said a word yet, which the kernel holds back from the workers, outlive whatever is done
// to them.
func TestSilentConnectionsAreKept(t *testing.T) {
	long(t)
	for _, tt := range []struct {
		name string
		then func(*testing.T, *server)
	}{
		{"reload", func(t *testing.T, s *server) { s.control(t, "reload") }},
		{"fewer workers", func(t *testing.T, s *server) { s.control(t, "scale", "1") }},
		{"upgrade", func(t *testing.T, s *server) { s.control(t, "upgrade") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startDemo(t, 4, "--linger", "30s", "--graceful-timeout", "1m")
			var silent []*clientConn
			for range 40 {
				c, err := dial(s.app)
				require.NoError(t, err)
				defer c.Close()
				silent = append(silent, c)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				tt.then(t, s)
			}()
			answered := 0
			for _, c := range silent {
				if assert.NoError(t, c.do("/", false)) {
					answered++
				}
			}
			<-done
			assert.Equal(t, float64(answered), mustScrape(t, s.metrics).sum("demo_requests_total"))
		})
	}
}
