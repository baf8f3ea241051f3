package httpmetrics

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// httputil.ReverseProxy is a handler that uses all that a writer can do: it flushes, hands on 1xx and trailers, takes
// connections over and aborts.
func TestReverseProxy(t *testing.T) {
	release := make(chan bool)
	mux := http.NewServeMux()
	mux.HandleFunc("/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Trailer", "X-End")
		fmt.Fprint(w, "body")
		w.Header().Set("X-End", "reached")
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-release
	})
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "half of it")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/upgrade", func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		line, _ := rw.ReadString('\n')
		fmt.Fprint(conn, line)
	})
	backend, err := url.Parse(serve(t, mux))
	require.NoError(t, err)

	prefix := fresh()
	quiet := log.New(io.Discard, "", 0)
	front := httptest.NewUnstartedServer(Must(New(Options{Prefix: prefix})).Wrap(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			to := *backend
			if r.URL.Path == "/dead" {
				to.Host = "127.0.0.1:1"
			}
			(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&to) }, ErrorLog: quiet}).ServeHTTP(w, r)
		})))
	front.Config.ErrorLog = quiet
	front.Start()
	defer front.Close()

	resp, err := http.Get(front.URL + "/hints")
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, "body", string(body))
	assert.Equal(t, "reached", resp.Trailer.Get("X-End"))

	resp, err = http.Get(front.URL + "/stream")
	require.NoError(t, err)
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "data: 1\n", line, "while the handler is not through")
	release <- true
	resp.Body.Close()

	resp, err = http.Get(front.URL + "/broken")
	require.NoError(t, err)
	_, err = io.ReadAll(resp.Body)
	assert.Error(t, err)
	resp.Body.Close()

	code, _ := get(t, front.URL+"/dead")
	assert.Equal(t, 502, code)

	conn, err := net.Dial("tcp", strings.TrimPrefix(front.URL, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprint(conn, "GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(conn)
	resp, err = http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, 101, resp.StatusCode)
	fmt.Fprint(conn, "hello\n")
	line, err = r.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "hello\n", line)
	conn.Close()

	total, exceptions := counter(t, prefix)(5).statuses(t)
	assert.Equal(t, map[string]float64{"200": 3, "502": 1, "101": 1}, total)
	assert.Empty(t, exceptions)
}
