package httpmetrics

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// measures starts a server of h at /x, and returns its URL and a function that waits until n requests are over and
// gives what was counted of them.
func measures(t *testing.T, o Options, h http.HandlerFunc) (url string, counted func(n int) samples) {
	t.Helper()
	o.Prefix = fresh()
	m := Must(New(o))
	mux := http.NewServeMux()
	mux.HandleFunc("/x", h)
	return serve(t, m.Wrap(mux)) + "/x", counter(t, o.Prefix)
}

// overHTTP2 has a server for h that speaks HTTP/2, and a client for it.
func overHTTP2(t *testing.T, h http.Handler) (string, *http.Client) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL, s.Client()
}

func counter(t *testing.T, prefix string) func(n int) samples {
	return func(n int) samples {
		t.Helper()
		eventually(t, "the end of the requests", func() bool {
			over := 0.0
			for k, v := range scraped(t).of(prefix + "_") {
				if strings.HasPrefix(k, "http_request_duration_seconds_count{") {
					over += v
				}
			}
			return over == float64(n)
		})
		// What is counted before is there now; the scrape above may have read it earlier than the durations.
		return scraped(t).of(prefix + "_")
	}
}

// statuses are the requests of each status, as the counter, the duration and the exceptions have them.
func (s samples) statuses(t *testing.T) (total, exceptions map[string]float64) {
	t.Helper()
	total, exceptions = map[string]float64{}, map[string]float64{}
	duration := map[string]float64{}
	for k, v := range s {
		_, rest, _ := strings.Cut(k, `status="`)
		status, _, _ := strings.Cut(rest, `"`)
		switch name, _, _ := strings.Cut(k, "{"); name {
		case "http_request_total":
			total[status] += v
		case "http_request_duration_seconds_count":
			duration[status] += v
		case "http_request_exceptions_total":
			exceptions[status] += v
		}
	}
	assert.Equal(t, total, duration, "counter and duration")
	return total, exceptions
}

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		method  string
		status  int // that the client sees; 0: a broken connection
		counted string
		failed  bool // counted as an exception
		size    float64
		only    string // the protocol, where the other one is different
	}{
		{name: "writes nothing", handler: func(http.ResponseWriter, *http.Request) {}, status: 200, counted: "200"},
		{name: "writes a body", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte("hello"))
			io.WriteString(w, " world")
		}, status: 200, counted: "200", size: 11},
		{name: "writes an empty body", handler: func(w http.ResponseWriter, _ *http.Request) { w.Write(nil) },
			status: 200, counted: "200"},
		{name: "writes a status", handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418) },
			status: 418, counted: "418"},
		{name: "writes an unknown status", handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(799) },
			status: 799, counted: "799"},
		{name: "writes twice", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(201)
			w.WriteHeader(500)
			w.Write([]byte("x"))
		}, status: 201, counted: "201", size: 1},
		{name: "writes a status after the body", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte("x"))
			w.WriteHeader(500)
		}, status: 200, counted: "200", size: 1},
		{name: "writes what is no status", handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(42) },
			counted: "500", failed: true},
		{name: "early hints first", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusProcessing)
			w.WriteHeader(202)
		}, status: 202, counted: "202"},
		{name: "HEAD", method: http.MethodHead, handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte("hello"))
		}, status: 200, counted: "200"},
		{name: "flushes", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			w.WriteHeader(500)
			w.Write([]byte("x"))
		}, status: 200, counted: "200", size: 1},
		{name: "flushes by the controller", handler: func(w http.ResponseWriter, _ *http.Request) {
			http.NewResponseController(w).Flush()
			w.WriteHeader(500)
		}, status: 200, counted: "200"},
		{name: "copies", handler: func(w http.ResponseWriter, _ *http.Request) {
			io.Copy(w, io.LimitReader(neverending('x'), 100_000))
		}, status: 200, counted: "200", size: 100_000},
		{name: "copies little", handler: func(w http.ResponseWriter, _ *http.Request) {
			io.Copy(w, struct{ io.Reader }{strings.NewReader("x")})
		}, status: 200, counted: "200", size: 1},
		{name: "copies from what fails at once", handler: func(w http.ResponseWriter, _ *http.Request) {
			if _, err := io.Copy(w, failing{}); err != nil {
				w.WriteHeader(502)
			}
		}, status: 502, counted: "502"},
		{name: "serves a file", handler: func(w http.ResponseWriter, r *http.Request) {
			http.ServeFile(w, r, "wrap_test.go")
		}, status: 200, counted: "200", size: fileSize("wrap_test.go")},
		{name: "not modified", handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) },
			status: 304, counted: "304"},
		{name: "a method that nobody knows", method: "BREW", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(405)
		}, status: 405, counted: "405"},
		{name: "panics", handler: func(http.ResponseWriter, *http.Request) { panic("x") }, counted: "500", failed: true},
		{name: "panics with an error", handler: func(http.ResponseWriter, *http.Request) { panic(io.EOF) },
			counted: "500", failed: true},
		{name: "panics after the status", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(203)
			w.(http.Flusher).Flush()
			panic("x")
		}, status: 203, counted: "203", failed: true},
		{name: "ends its goroutine", handler: func(http.ResponseWriter, *http.Request) { runtime.Goexit() }, counted: "499",
			only: "HTTP/1.1"},
		{name: "aborts", handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, counted: "499"},
		{name: "aborts after the status", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(203)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, status: 203, counted: "203"},
	} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			if c.only == "" || c.only == protocol {
				t.Run(c.name+" "+protocol, func(t *testing.T) {
					prefix := fresh()
					mux := http.NewServeMux()
					mux.HandleFunc("/x", c.handler)
					h := Must(New(Options{Prefix: prefix, Sizes: true, InFlight: true})).Wrap(mux)
					url, client := "", http.DefaultClient
					if protocol == "HTTP/2.0" {
						url, client = overHTTP2(t, h)
					} else {
						url = serve(t, h)
					}
					method := c.method
					if method == "" {
						method = http.MethodGet
					}
					status, _ := doBy(t, client, method, url+"/x", nil)
					assert.Equal(t, c.status, status)
					s := counter(t, prefix)(1)
					total, exceptions := s.statuses(t)
					assert.Equal(t, map[string]float64{c.counted: 1}, total)
					if c.failed {
						assert.Equal(t, map[string]float64{c.counted: 1}, exceptions)
					} else {
						assert.Empty(t, exceptions)
					}
					if method == "BREW" {
						method = "other"
					}
					assert.Equal(t, 1.0, s[sample("http_request_total", "method", method, "status", c.counted)])
					labels := []string{"method", method, "path", "/x", "status", c.counted}
					assert.Equal(t, c.size, s[sample("http_response_size_bytes_sum", labels...)])
					assert.Equal(t, 1.0, s[sample("http_response_size_bytes_count", labels...)])
					assert.Equal(t, 0.0, s[sample("http_requests_in_flight")])
				})
			}
		}
	}
}

// failing is a source that has nothing.
type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("no source") }

func fileSize(name string) float64 {
	info, err := os.Stat(name)
	if err != nil {
		panic(err)
	}
	return float64(info.Size())
}

// Whoever has an answer, or its first byte, finds it counted.
func TestCountedBeforeAByteLeaves(t *testing.T) {
	release := make(chan struct{})
	for name, write := range map[string]func(http.ResponseWriter){
		"status": func(w http.ResponseWriter) {
			w.WriteHeader(200)
			http.NewResponseController(w).Flush()
		},
		"flush":    func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
		"body":     func(w http.ResponseWriter) { w.Write(make([]byte, 100_000)) },
		"readfrom": func(w http.ResponseWriter) { io.Copy(w, io.LimitReader(neverending('x'), 100_000)) },
		"hijack": func(w http.ResponseWriter) {
			conn, _, err := w.(http.Hijacker).Hijack()
			require.NoError(t, err)
			conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\n\r\n"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			prefix := fresh()
			m := Must(New(Options{Prefix: prefix}))
			url := serve(t, m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				write(w)
				<-release
			})))
			conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			require.NoError(t, err)
			defer conn.Close()
			fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			_, err = conn.Read(make([]byte, 1))
			require.NoError(t, err)
			s := scraped(t).of(prefix + "_")
			status := "200"
			if name == "hijack" {
				status = "101"
			}
			assert.Equal(t, 1.0, s[sample("http_request_total", "method", "GET", "status", status)])
			assert.Empty(t, s.of("http_request_duration_seconds_count"), "the handler has not returned")
			release <- struct{}{}
		})
	}
}

// neverending is a source without an end.
type neverending byte

func (b neverending) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

func TestHijack(t *testing.T) {
	url, counted := measures(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		require.NoError(t, err)
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
		rw.Flush()
		line, _ := rw.ReadString('\n')
		fmt.Fprint(rw, line)
		rw.Flush()
	})
	conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/x"))
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprint(conn, "GET /x HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	assert.Equal(t, 101, resp.StatusCode)
	fmt.Fprint(conn, "hello\n")
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "hello\n", line)
	total, exceptions := counted(1).statuses(t)
	assert.Equal(t, map[string]float64{"101": 1}, total)
	assert.Empty(t, exceptions)
}

// A client that has gone before there was a status got none, whatever the handler does about it.
func TestClientGone(t *testing.T) {
	for name, late := range map[string]http.HandlerFunc{
		"returns": func(http.ResponseWriter, *http.Request) {},
		"writes":  func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("too late")) },
		"aborts":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				prefix := fresh()
				m := Must(New(Options{Prefix: prefix}))
				began := make(chan struct{})
				s := httptest.NewUnstartedServer(m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					close(began)
					<-r.Context().Done()
					late(w, r)
				})))
				s.EnableHTTP2 = protocol == "HTTP/2.0"
				s.StartTLS()
				defer s.Close()
				ctx, leave := context.WithCancel(t.Context())
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
				require.NoError(t, err)
				go func() {
					<-began
					leave()
				}()
				_, err = s.Client().Do(req)
				require.ErrorIs(t, err, context.Canceled)
				total, exceptions := counter(t, prefix)(1).statuses(t)
				assert.Equal(t, map[string]float64{"499": 1}, total)
				assert.Empty(t, exceptions)
			})
		}
	}
}

// A worker that must come to an end ends the contexts of its requests, whose clients are there and get an answer.
func TestServerGivesUp(t *testing.T) {
	life, giveUp := context.WithCancelCause(t.Context())
	prefix := fresh()
	began := make(chan struct{})
	s := httptest.NewUnstartedServer(Must(New(Options{Prefix: prefix})).Wrap(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			close(began)
			<-r.Context().Done()
			w.WriteHeader(503)
		})))
	s.Config.BaseContext = func(net.Listener) context.Context { return life }
	s.Start()
	defer s.Close()
	go func() {
		<-began
		giveUp(errors.New("told to stop"))
	}()
	code, _ := get(t, s.URL)
	assert.Equal(t, 503, code)
	total, _ := counter(t, prefix)(1).statuses(t)
	assert.Equal(t, map[string]float64{"503": 1}, total)
}

// Early hints reach the client, who is told a status after them.
func TestInformational(t *testing.T) {
	url, counted := measures(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Write([]byte("body"))
	})
	var hints []int
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
		hints = append(hints, code)
		return nil
	}}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, []int{103}, hints)
	total, _ := counted(1).statuses(t)
	assert.Equal(t, map[string]float64{"200": 1}, total)
}

// A handler sees what the server's writer can do: that much, and no more.
func TestWriterIsWhatItWraps(t *testing.T) {
	type abilities struct{ flush, hijack, readFrom, push, closeNotify, stringWriter bool }
	of := func(w http.ResponseWriter) (a abilities) {
		_, a.flush = w.(http.Flusher)
		_, a.hijack = w.(http.Hijacker)
		_, a.readFrom = w.(io.ReaderFrom)
		_, a.push = w.(http.Pusher)
		_, a.closeNotify = w.(closeNotifier)
		_, a.stringWriter = w.(io.StringWriter)
		return a
	}
	for _, http2 := range []bool{false, true} {
		var bare, wrapped abilities
		m := Must(New(Options{Prefix: fresh()}))
		inner := m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			wrapped = of(w)
			rc := http.NewResponseController(w)
			assert.NoError(t, rc.SetReadDeadline(time.Now().Add(time.Hour)))
			assert.NoError(t, rc.SetWriteDeadline(time.Now().Add(time.Hour)))
			assert.NoError(t, rc.EnableFullDuplex())
			assert.NoError(t, rc.Flush())
			if http2 {
				_, _, err := rc.Hijack()
				assert.ErrorIs(t, err, errors.ErrUnsupported)
				assert.ErrorIs(t, w.(http.Pusher).Push("/x", nil), errors.ErrUnsupported, "by the client")
			}
		}))
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			bare = of(w)
			inner.ServeHTTP(w, r)
		}))
		s.EnableHTTP2 = http2
		s.StartTLS()
		resp, err := s.Client().Get(s.URL)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body) // until the handler has returned
		require.NoError(t, err)
		resp.Body.Close()
		s.Close()
		assert.Equal(t, bare, wrapped, "HTTP/2: %v", http2)
		assert.Equal(t, http2, wrapped.push)
		assert.Equal(t, !http2, wrapped.hijack)
	}

	// Writers of others, alone and in one that only http.ResponseController looks into.
	for _, c := range []struct {
		name string
		w    http.ResponseWriter
		want abilities
	}{
		{"nothing", struct{ http.ResponseWriter }{httptest.NewRecorder()}, abilities{stringWriter: true}},
		{"a recorder", httptest.NewRecorder(), abilities{flush: true, stringWriter: true}},
		{"a recorder in another", unwrapping{httptest.NewRecorder()}, abilities{flush: true, stringWriter: true}},
		{"all in another", unwrapping{&cheapWriter{http.Header{}}}, abilities{flush: true, hijack: true, stringWriter: true}},
	} {
		var got abilities
		Must(New(Options{Prefix: fresh()})).Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			got = of(w)
			if !c.want.flush {
				assert.ErrorIs(t, http.NewResponseController(w).Flush(), errors.ErrUnsupported)
			}
		})).ServeHTTP(c.w, httptest.NewRequest("GET", "/", nil))
		assert.Equal(t, c.want, got, c.name)
	}
}

// unwrapping is what a middleware puts around a writer.
type unwrapping struct{ http.ResponseWriter }

func (u unwrapping) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// A handler that keeps its writer, which it must not, reaches no other request by it.
func TestWriterAfterItsHandler(t *testing.T) {
	m := Must(New(Options{Prefix: fresh()}))
	for _, http2 := range []bool{false, true} {
		var kept http.ResponseWriter
		h := m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keep" {
				kept = w
				return
			}
			// The next request, which has everything of the last one that is used again.
			n, err := kept.Write([]byte("of somebody else"))
			assert.Zero(t, n)
			assert.ErrorIs(t, err, errOver)
			_, err = io.WriteString(kept, "of somebody else")
			assert.ErrorIs(t, err, errOver)
			_, err = io.Copy(kept, strings.NewReader("of somebody else"))
			assert.ErrorIs(t, err, errOver)
			kept.WriteHeader(500)
			kept.Header().Set("X-Late", "1")
			kept.(http.Flusher).Flush()
			assert.ErrorIs(t, http.NewResponseController(kept).Flush(), errOver)
			_, _, err = http.NewResponseController(kept).Hijack()
			assert.Error(t, err)
			assert.Nil(t, m.Of(kept))
			kept.(closeNotifier).CloseNotify()
			if p, ok := kept.(http.Pusher); ok {
				assert.ErrorIs(t, p.Push("/", nil), errOver)
			}
			assert.NotSame(t, kept, w)
			fmt.Fprint(w, "mine")
		}))
		s := httptest.NewUnstartedServer(h)
		s.EnableHTTP2 = http2
		s.StartTLS()
		for _, path := range []string{"/keep", "/next"} {
			resp, err := s.Client().Get(s.URL + path)
			require.NoError(t, err)
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			assert.Equal(t, 200, resp.StatusCode)
			assert.Empty(t, resp.Header.Get("X-Late"))
			assert.Equal(t, map[string]string{"/keep": "", "/next": "mine"}[path], string(body))
		}
		s.Close()
	}
}

// A panic is the handler's: its value comes through, and the trace that is logged shows where it was.
func TestPanicIsPassedOn(t *testing.T) {
	var logged bytes.Buffer
	var mu sync.Mutex
	s := httptest.NewUnstartedServer(Must(New(Options{Prefix: fresh()})).Wrap(http.HandlerFunc(theOneThatPanics)))
	s.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return logged.Write(b)
	}), nil), slog.LevelError)
	s.Start()
	defer s.Close()
	code, _ := get(t, s.URL)
	assert.Zero(t, code)
	eventually(t, "the log", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(logged.String(), "theOneThatPanics") && strings.Contains(logged.String(), "out of coffee")
	})
}

func theOneThatPanics(http.ResponseWriter, *http.Request) { panic("out of coffee") }

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// A request is measured once, however many Wraps of the same Metrics it passes, and by each of different ones.
func TestWrappedTwice(t *testing.T) {
	one, two := fresh(), fresh()
	m, other := Must(New(Options{Prefix: one})), Must(New(Options{Prefix: two}))
	same := Must(New(Options{Prefix: two}))
	h := m.Wrap(other.Wrap(unwrapper2(m.Wrap(answering(200)))))
	code, _ := get(t, serve(t, h))
	require.Equal(t, 200, code)
	code, _ = get(t, serve(t, same.Wrap(answering(200))))
	require.Equal(t, 200, code)
	total, _ := counter(t, one)(1).statuses(t)
	assert.Equal(t, map[string]float64{"200": 1}, total)
	total, _ = counter(t, two)(2).statuses(t)
	assert.Equal(t, map[string]float64{"200": 2}, total, "Metrics of the same names count in the same metrics")
}

// unwrapper2 is middleware that wraps the writer as it should.
func unwrapper2(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(unwrapping{w}, r) })
}

// Middleware that answers from another goroutine, and lets the handler run on.
func TestTimeoutHandler(t *testing.T) {
	outer, inner := fresh(), fresh()
	out, in := Must(New(Options{Prefix: outer})), Must(New(Options{Prefix: inner}))
	gone := make(chan struct{})
	slow := in.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		<-gone
		_, err := w.Write([]byte("late"))
		assert.ErrorIs(t, err, http.ErrHandlerTimeout)
	}))
	code, _ := get(t, serve(t, out.Wrap(http.TimeoutHandler(slow, time.Millisecond, "too slow"))))
	assert.Equal(t, 503, code)
	total, _ := counter(t, outer)(1).statuses(t)
	assert.Equal(t, map[string]float64{"503": 1}, total)
	close(gone)
	counter(t, inner)(1)
}

func TestInFlightAndDoNotTrack(t *testing.T) {
	prefix := fresh()
	m := Must(New(Options{Prefix: prefix, InFlight: true}))
	entered, leave := make(chan struct{}), make(chan struct{})
	wait := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-leave
	})
	mux := http.NewServeMux()
	mux.Handle("/tracked", wait)
	mux.Handle("/untracked", m.DoNotTrack(wait))
	mux.Handle("/none", m.ExcludeAll(wait))
	url := serve(t, m.Wrap(mux))
	inFlight := func() float64 { return scraped(t)[sample(prefix+"_http_requests_in_flight")] }
	var done sync.WaitGroup
	for _, path := range []string{"/tracked", "/tracked", "/untracked", "/none"} {
		done.Go(func() { get(t, url+path) })
		<-entered
	}
	assert.Equal(t, 2.0, inFlight())
	close(leave)
	done.Wait()
	eventually(t, "nothing in flight", func() bool { return inFlight() == 0 })
	total, _ := counter(t, prefix)(2).statuses(t)
	assert.Equal(t, map[string]float64{"200": 2}, total)
}

func TestWrapHasTheRequestsInFlight(t *testing.T) {
	inFlight := func() float64 { return scraped(t)[sample("http_requests_in_flight")] }
	url := serve(t, Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, inFlight()) })))
	_, body := get(t, url)
	assert.Equal(t, "1", body)
	eventually(t, "nothing in flight", func() bool { return inFlight() == 0 })
}

// Many at once, of every kind, over writers that are used again: nothing gets lost or mixed up.
func TestManyAtOnce(t *testing.T) {
	url, counted := measures(t, Options{Labels: []Label{{Name: "n", Func: func(e *Exchange) string {
		return e.Request.URL.Query().Get("n")
	}}}}, func(w http.ResponseWriter, r *http.Request) {
		n := r.URL.Query().Get("n")
		switch n {
		case "0":
			panic(http.ErrAbortHandler)
		case "1":
			w.WriteHeader(204)
		default:
			fmt.Fprint(w, n)
		}
	})
	const clients, each = 8, 60
	var done sync.WaitGroup
	for range clients {
		done.Go(func() {
			for i := range each {
				n := fmt.Sprint(i % 6)
				code, body := get(t, url+"?n="+n)
				switch n {
				case "0":
					assert.Zero(t, code)
				case "1":
					assert.Equal(t, 204, code)
				default:
					assert.Equal(t, n, body)
				}
			}
		})
	}
	done.Wait()
	s := counted(clients * each)
	for n, status := range map[string]string{"0": "499", "1": "204", "2": "200", "3": "200", "4": "200", "5": "200"} {
		assert.Equal(t, clients*each/6.0, s[sample("http_request_total", "method", "GET", "status", status, "n", n)], n)
		assert.Equal(t, clients*each/6.0, s[sample("http_request_duration_seconds_count", "method", "GET", "path", "/x",
			"status", status, "n", n)], n)
	}
}

// Nothing of a handler's leaves a file open or a response half read: a large file goes out whole, by whichever way.
func TestLargeFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "large")
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	require.NoError(t, os.WriteFile(name, content, 0o600))
	url, counted := measures(t, Options{Sizes: true}, func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(name)
		require.NoError(t, err)
		defer f.Close()
		n, err := io.Copy(w, f)
		assert.NoError(t, err)
		assert.EqualValues(t, len(content), n)
	})
	_, body := get(t, url)
	assert.Equal(t, string(content), body)
	s := counted(1)
	assert.Equal(t, float64(len(content)), s[sample("http_response_size_bytes_sum", "method", "GET", "path", "/x",
		"status", "200")])
	assert.Equal(t, 1.0, s[sample("http_request_size_bytes_count", "method", "GET", "path", "/x", "status", "200")])
}
