package worker

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestServeDefersAccept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	w, stop := alone(t, "127.0.0.1:0", "unix:"+path)
	before := make(chan net.Conn, 2) // connections before their first byte
	served := make(chan error, 1)
	go func() {
		served <- w.Serve(&http.Server{
			Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte("here")) }),
			ConnState: func(c net.Conn, s http.ConnState) {
				if s == http.StateNew {
					before <- c
				}
			},
		})
	}()
	for _, l := range w.Listeners() {
		c, err := net.Dial(l.Addr().Network(), l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		// Who says nothing is accepted nevertheless, later.
		select {
		case <-before:
		case <-time.After(patient):
			require.FailNow(t, "not accepted", l.Addr().Network())
		}
		fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
		answer, err := io.ReadAll(c)
		require.NoError(t, err)
		assert.Contains(t, string(answer), "here")
	}
	raw, err := w.Listeners()[0].(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		seconds, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT)
		assert.NoError(t, err)
		assert.Positive(t, seconds)
	}))
	stop()
	assert.NoError(t, <-served)
}
