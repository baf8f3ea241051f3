package scrapetimeout

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// recorder notes the deadline.
type recorder struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

func (r *recorder) SetWriteDeadline(t time.Time) error {
	r.deadline = t
	return nil
}

func TestLimit(t *testing.T) {
	h := Limit(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for header, want := range map[string]time.Duration{
		"": Default, "no number": Default, "-1": Default, "NaN": Default, "0.5": 500 * time.Millisecond,
		"15": 15 * time.Second, "1e300": longest, "+Inf": longest, "61": longest,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set(Header, header)
		w := &recorder{ResponseRecorder: httptest.NewRecorder()}
		before := time.Now()
		h.ServeHTTP(w, r)
		assert.WithinRange(t, w.deadline, before.Add(want), time.Now().Add(want), header)
	}
}

func TestClientThatDoesNotRead(t *testing.T) {
	failed := make(chan error, 1)
	srv := httptest.NewServer(Limit(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var err error
		for piece := make([]byte, 1<<20); err == nil; {
			_, err = w.Write(piece)
		}
		failed <- err
	})))
	defer srv.Close()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n%s: 0.1\r\n\r\n", Header)
	select {
	case err := <-failed:
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	case <-time.After(time.Minute):
		assert.Fail(t, "it is still being written")
	}
}
