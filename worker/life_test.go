package worker

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/onescrape/onescrape/worker/internal/listeners"
	"github.com/onescrape/onescrape/worker/sdnotify"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const patient = 30 * time.Second

// listenNotify sets NOTIFY_SOCKET and returns what is sent there.
func listenNotify(t *testing.T) <-chan string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "n")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Setenv("NOTIFY_SOCKET", path)
	out := make(chan string, 100)
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if err != nil {
				close(out)
				return
			}
			out <- string(buf[:n])
		}
	}()
	return out
}

// next returns the next datagram that contains what.
func next(t *testing.T, c <-chan string, what string) string {
	t.Helper()
	deadline := time.After(patient)
	for {
		select {
		case s, ok := <-c:
			require.True(t, ok)
			if strings.Contains(s, what) {
				return s
			}
		case <-deadline:
			require.FailNow(t, "nobody said "+what)
		}
	}
}

// alone returns a worker that listens on a port of its own, and a function that begins its drain.
func alone(t *testing.T, addrs ...string) (*Worker, func()) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	w, err := FromEnvironment(ctx, addrs...)
	require.NoError(t, err)
	t.Cleanup(func() {
		stop()
		w.Close()
	})
	return w, stop
}

func TestSocketEnv(t *testing.T) {
	e := sdnotify.Sockets{FDs: "2", PID: "7", Names: "web:admin"}
	for _, test := range []struct {
		env        sdnotify.Sockets
		pid        int
		supervised bool
		n          int
		err        string
	}{
		{env: e, pid: 7, n: 2},
		{env: e, pid: 7, supervised: true, n: 2},
		{env: e, pid: 8, n: 0}, // left over from somebody else
		{env: e, pid: 8, supervised: true, err: "start the server with exec"},
		{env: sdnotify.Sockets{}, pid: 8, supervised: true, n: 0},
		{env: sdnotify.Sockets{FDs: "0", PID: "7"}, pid: 8, supervised: true, n: 0},
		{env: sdnotify.Sockets{FDs: "many", PID: "7"}, pid: 7, err: `LISTEN_FDS="many"`},
		{env: sdnotify.Sockets{FDs: "-1", PID: "7"}, pid: 7, err: `LISTEN_FDS="-1"`},
	} {
		n, err := listeners.Own(test.env, test.pid, test.supervised)
		if test.err != "" {
			assert.ErrorContains(t, err, test.err)
			continue
		}
		assert.NoError(t, err)
		assert.Equal(t, test.n, n)
	}
	assert.Equal(t, "admin", e.Name(1))
	assert.Empty(t, e.Name(2))
	assert.Empty(t, sdnotify.Sockets{}.Name(0))
}

func TestAloneItListensItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	w, _ := alone(t, "web=127.0.0.1:0", "unix:"+path)
	assert.Equal(t, -1, w.Slot())
	require.Len(t, w.Listeners(), 2)
	assert.Equal(t, w.Listeners()[0], w.Listener("web"))
	assert.Nil(t, w.Listener("other"))
	assert.Equal(t, path, w.Listeners()[1].Addr().String())
	assert.Equal(t, time.Second, w.Linger())
	assert.NoError(t, w.Ready(), "nobody is there to be told")
	w.Recycle()
}

func TestBadEnvironment(t *testing.T) {
	for key, value := range map[string]string{"ONESCRAPE_SLOT": "one", "ONESCRAPE_LINGER": "soon",
		"ONESCRAPE_GRACEFUL_TIMEOUT": "-1s", "ONESCRAPE_MAX_REQUESTS": "x", "WATCHDOG_USEC": "0"} {
		t.Run(key, func(t *testing.T) {
			t.Setenv(key, value)
			_, err := FromEnvironment(context.Background())
			assert.ErrorContains(t, err, key+`="`+value+`"`)
		})
	}
}

func TestReadyAndStopping(t *testing.T) {
	said := listenNotify(t)
	w, stop := alone(t)
	require.NoError(t, w.Ready())
	require.NoError(t, w.Ready())
	assert.Equal(t, "READY=1", next(t, said, "READY"))
	require.NoError(t, w.Status("two\nlines"))
	assert.Equal(t, "STATUS=two lines", next(t, said, "STATUS"))
	w.Recycle()
	w.Recycle()
	next(t, said, "X_ONESCRAPE_RECYCLE=1")
	stop()
	assert.Equal(t, "STOPPING=1", <-said, "asking twice was asking once")
	<-w.Draining()
	<-w.Stopping().Done()
	assert.NoError(t, w.Context().Err(), "requests may go on")
	assert.Empty(t, os.Getenv("NOTIFY_SOCKET"), "children must not speak for this process")
}

func TestWatchdog(t *testing.T) {
	said := listenNotify(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	w, _ := alone(t)
	sick := make(chan error, 1)
	w.Healthy(func(context.Context) error {
		select {
		case err := <-sick:
			return err
		default:
			return nil
		}
	})
	require.NoError(t, w.Ready())
	next(t, said, "WATCHDOG=1")
	sick <- errors.New("no database")
	assert.Equal(t, "STATUS=not healthy: no database", next(t, said, "STATUS"))
	next(t, said, "WATCHDOG=1")
}

func TestWatchdogOfAnotherProcess(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", "1")
	w, _ := alone(t)
	assert.Zero(t, w.watchdog)
}

func TestOnExit(t *testing.T) {
	w, _ := alone(t)
	var order []int
	broken := errors.New("broken")
	w.OnExit(func(ctx context.Context) error {
		_, ok := ctx.Deadline()
		assert.True(t, ok)
		order = append(order, 1)
		return broken
	})
	w.OnExit(func(context.Context) error {
		order = append(order, 2)
		return nil
	})
	assert.ErrorIs(t, w.Close(), broken)
	assert.ErrorIs(t, w.Close(), broken)
	assert.Equal(t, []int{2, 1}, order)
	assert.Error(t, w.Context().Err())
}

func TestMasterGone(t *testing.T) {
	r, wr, err := os.Pipe()
	require.NoError(t, err)
	w, _ := alone(t)
	w.watchMaster(strconv.Itoa(duplicate(t, r)))
	r.Close()
	select {
	case <-w.Draining():
		require.FailNow(t, "the master lives")
	default:
	}
	wr.Close()
	<-w.Draining()
}

// Without a master a second TERM within a second of the first is the same request; a later one is the end.
func TestTwoTermsAtOnce(t *testing.T) {
	w, _ := alone(t, "127.0.0.1:0")
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGTERM)
	defer signal.Stop(heard)
	began := time.Now()
	for w.Context().Err() == nil {
		require.Less(t, time.Since(began), patient)
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGTERM))
		<-heard // so that none comes when nobody listens any more
		select {
		case <-w.Context().Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
	assert.GreaterOrEqual(t, time.Since(began), oneRequest)
	assert.ErrorIs(t, context.Cause(w.Context()), errQuick)
}

func TestServeDrainsPolitely(t *testing.T) {
	t.Setenv("ONESCRAPE_LINGER", "30s")
	w, stop := alone(t, "127.0.0.1:0")
	url := "http://" + w.Listeners()[0].Addr().String()
	entered, release := make(chan struct{}), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/slow", func(rw http.ResponseWriter, r *http.Request) {
		close(entered)
		<-release
		assert.NoError(t, r.Context().Err())
		rw.Write([]byte("slow"))
	})
	mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte("quick")) })
	served := make(chan error, 1)
	go func() { served <- w.Serve(&http.Server{Handler: mux}) }()

	idle := &http.Client{Transport: &http.Transport{}}
	get := func(c *http.Client, path string) (*http.Response, error) {
		r, err := c.Get(url + path)
		if err == nil {
			io.Copy(io.Discard, r.Body)
			r.Body.Close()
		}
		return r, err
	}
	r, err := get(idle, "/")
	require.NoError(t, err)
	assert.False(t, r.Close)
	slow := make(chan error, 1)
	go func() {
		// Its answer could not say Connection: close any more; the client closes by itself.
		r, err := get(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "/slow")
		if err == nil && r.StatusCode != http.StatusOK {
			err = errors.New(r.Status)
		}
		slow <- err
	}()
	<-entered
	stop()
	<-w.Draining()
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", w.Listeners()[0].Addr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	}, patient, time.Millisecond, "nothing new is accepted")
	r, err = get(idle, "/")
	require.NoError(t, err, "a kept connection is still answered")
	assert.True(t, r.Close, "and told to close")
	select {
	case err := <-served:
		require.FailNow(t, "it did not wait for the request", "%v", err)
	default:
	}
	close(release)
	assert.NoError(t, <-slow)
	assert.NoError(t, <-served)
}

func TestServeGivesUp(t *testing.T) {
	t.Setenv("ONESCRAPE_GRACEFUL_TIMEOUT", "1s")
	w, stop := alone(t, "127.0.0.1:0")
	entered, ended := make(chan struct{}), make(chan struct{})
	served := make(chan error, 1)
	go func() {
		served <- w.Serve(&http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
			assert.ErrorIs(t, context.Cause(w.Context()), errTooLong)
			<-ended
		})})
	}()
	go http.Get("http://" + w.Listeners()[0].Addr().String())
	<-entered
	stop()
	assert.ErrorContains(t, <-served, "1 connections were still busy after 1s")
	close(ended)
}

func TestServeAsksForASuccessor(t *testing.T) {
	said := listenNotify(t)
	t.Setenv("ONESCRAPE_MAX_REQUESTS", "3")
	w, stop := alone(t, "127.0.0.1:0")
	served := make(chan error, 1)
	go func() { served <- w.Serve(&http.Server{Handler: http.NotFoundHandler()}) }()
	for range 3 {
		r, err := http.Get("http://" + w.Listeners()[0].Addr().String())
		require.NoError(t, err)
		r.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	next(t, said, "READY=1")
	next(t, said, "X_ONESCRAPE_RECYCLE=1")
	stop()
	assert.NoError(t, <-served)
}

func TestServeWithoutListeners(t *testing.T) {
	w, _ := alone(t)
	assert.ErrorContains(t, w.Serve(&http.Server{}), "no listeners")
}

func duplicate(t *testing.T, f *os.File) int {
	t.Helper()
	fd, err := syscall.Dup(int(f.Fd()))
	require.NoError(t, err)
	return fd
}
