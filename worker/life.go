package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/worker/internal/listeners"
	"github.com/onescrape/onescrape/worker/logqueue"
	"github.com/onescrape/onescrape/worker/sdnotify"
	"github.com/onescrape/onescrape/worker/sigpipe"
)

// The defaults of a worker, and of a master's Config and flags.
const (
	// DefaultGracefulTimeout is how long a worker may take to drain. It is below Kubernetes' 30 s.
	DefaultGracefulTimeout = 25 * time.Second
	// DefaultLinger is how long a draining worker still answers on open connections.
	DefaultLinger = time.Second
)

// Worker is the life cycle of one worker process: its listeners, its messages to the master, and its drain. All methods are
// safe for concurrent use.
//
// A drain begins at the first stop signal (TERM, or the signal that the master is configured to send), when the master is
// gone, or when the context given to FromEnvironment ends. Draining is then closed, and servers stop accepting and finish
// what they have. Context ends when requests in flight must give up: when the graceful timeout is nearly over, at INT, and,
// without a master, at a second stop signal more than a second after the first.
type Worker struct {
	slot      int
	listeners []listeners.Named
	notify    *sdnotify.Notifier
	graceful  time.Duration
	linger    time.Duration
	watchdog  time.Duration
	requests  budget

	draining  chan struct{} // closed once, by drain
	drainOnce sync.Once
	stopping  context.Context // ends with draining
	life      context.Context // ends when requests must give up
	giveUp    context.CancelCauseFunc

	closing  closing
	ready    atomic.Bool
	recycled atomic.Bool
	check    atomic.Pointer[func(context.Context) error]

	mu     sync.Mutex
	onExit []func(context.Context) error // guarded by mu
	serves int                           // Serve calls that have not returned, guarded by mu
}

// closing is the end of a Worker.
type closing struct {
	done chan struct{} // closed once, by Close
	once sync.Once
	err  error // what Close returns
}

var (
	errQuick   = errors.New("worker: told to stop at once")
	errTooLong = errors.New("worker: the graceful timeout is over")
)

// FromEnvironment makes the Worker of a process that master.Run did not start: one that runs below onescrape run, below
// systemd with socket activation, or alone. Its sockets are those of LISTEN_FDS; without any it listens on addrs itself
// (host:port, unix:PATH, each with name= before it where Listener is to find it). When ctx ends the worker drains.
//
// From then on the process handles TERM and INT as Worker says, ignores HUP when it has a master, and no longer dies of
// USR1 or of a log whose reader is gone. The variables of the protocols are removed from the environment, so a second call
// does not find the master.
func FromEnvironment(ctx context.Context, addrs ...string) (*Worker, error) {
	sigpipe.Survive()
	w := &Worker{slot: -1, graceful: DefaultGracefulTimeout, linger: DefaultLinger, draining: make(chan struct{}),
		closing: closing{done: make(chan struct{})}}
	if s := os.Getenv("ONESCRAPE_SLOT"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("worker: ONESCRAPE_SLOT=%q is no slot", s)
		}
		w.slot = n
	}
	sockets := sdnotify.TakeSockets()
	n, err := listeners.Own(sockets, os.Getpid(), w.slot >= 0)
	if err != nil {
		return nil, err
	}
	if err := w.settings(); err != nil {
		return nil, err
	}
	w.notify = sdnotify.NewNotifier(sdnotify.TakeEnv("NOTIFY_SOCKET"))
	lifeline := sdnotify.TakeEnv("ONESCRAPE_LIFELINE")
	if n > 0 {
		w.listeners, err = listeners.Inherit(sockets, sdnotify.FirstFD, n)
	} else {
		w.listeners, err = listeners.Listen(ctx, addrs)
	}
	if err != nil {
		return nil, err
	}

	w.life, w.giveUp = context.WithCancelCause(context.Background())
	stopping, stop := context.WithCancel(context.Background())
	w.stopping = stopping
	go func() {
		<-w.draining
		stop()
	}()
	w.handleSignals()
	if w.slot >= 0 {
		w.watchMaster(lifeline)
	}
	context.AfterFunc(ctx, w.drain)
	return w, nil
}

// settings reads what a worker must know of the master's configuration.
func (w *Worker) settings() error {
	for key, d := range map[string]*time.Duration{
		"ONESCRAPE_GRACEFUL_TIMEOUT": &w.graceful,
		"ONESCRAPE_LINGER":           &w.linger,
	} {
		if s := os.Getenv(key); s != "" {
			v, err := time.ParseDuration(s)
			if err != nil || v < 0 {
				return fmt.Errorf("worker: %s=%q is no duration such as 25s", key, s)
			}
			*d = v
		}
	}
	if s := os.Getenv("ONESCRAPE_MAX_REQUESTS"); s != "" {
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil || v < 0 {
			return fmt.Errorf("worker: ONESCRAPE_MAX_REQUESTS=%q is no number of requests", s)
		}
		w.requests.limit = v
	}
	pid := sdnotify.TakeEnv("WATCHDOG_PID")
	if s := sdnotify.TakeEnv("WATCHDOG_USEC"); s != "" && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil || v <= 0 {
			return fmt.Errorf("worker: WATCHDOG_USEC=%q is no number of microseconds", s)
		}
		w.watchdog = time.Duration(v) * time.Microsecond
	}
	return nil
}

// oneRequest is how long after a stop signal another one is the same request. A program that stops a process and then its
// whole group, as timeout(1) does, sends two.
const oneRequest = time.Second

// handleSignals makes TERM (and the master's stop signal) a drain, and INT, or a second one, the end. QUIT keeps
// its meaning in Go, a dump of all goroutines, unless it is the stop signal.
func (w *Worker) handleSignals() {
	stop := syscall.SIGTERM
	if n, err := strconv.Atoi(os.Getenv("ONESCRAPE_STOP_SIGNAL")); err == nil && n > 0 {
		stop = syscall.Signal(n)
	}
	c := make(chan os.Signal, 4)
	watched := []os.Signal{syscall.SIGTERM, syscall.SIGINT, stop, syscall.SIGUSR1}
	if w.slot >= 0 {
		// A terminal that closes sends HUP to the whole group; only the master acts on it.
		watched = append(watched, syscall.SIGHUP)
	}
	signal.Notify(c, watched...)
	go func() {
		defer signal.Stop(c)
		var stopped time.Time // when the first stop signal came
		for {
			select {
			case <-w.closing.done:
				return
			case s := <-c:
				switch {
				case s == stop || s == syscall.SIGTERM:
					// With a master a second signal is the same request: a program that stops the whole group sends one,
					// and the master another. To stop the worker at once the master sends INT.
					if w.isDraining() && w.slot < 0 && time.Since(stopped) >= oneRequest {
						w.giveUp(errQuick)
					}
					if stopped.IsZero() {
						stopped = time.Now()
					}
					w.drain()
				case s == syscall.SIGINT:
					w.giveUp(errQuick)
					w.drain()
				}
			}
		}
	}()
}

// watchMaster drains when the master has gone: the pipe of which it alone holds the other end is at its end. Where a
// wrapper closed that descriptor, the parent's pid tells.
func (w *Worker) watchMaster(lifeline string) {
	fd, err := strconv.Atoi(lifeline)
	if err == nil && isPipe(fd) {
		syscall.CloseOnExec(fd)
		go func() {
			f := os.NewFile(uintptr(fd), "lifeline")
			defer f.Close()
			for {
				// Nothing is ever written to it.
				if n, err := f.Read(make([]byte, 1)); n == 0 && err != nil {
					w.orphaned()
					return
				}
			}
		}()
		return
	}
	parent := os.Getppid()
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if os.Getppid() != parent {
					w.orphaned()
					return
				}
			case <-w.closing.done:
				return
			}
		}
	}()
}

func (w *Worker) orphaned() {
	if !w.isDraining() {
		logqueue.Logger().Warn("the master has gone: this worker drains and stops", "slot", w.slot, "pid", os.Getpid())
	}
	w.drain()
	// Nobody is left who would kill a worker that does not come to an end, and the next master waits for its sockets.
	time.AfterFunc(w.graceful, func() {
		select {
		case <-w.closing.done:
		default:
			logqueue.Logger().Error("this worker did not stop in time, and no master is there to kill it", "slot", w.slot,
				"pid", os.Getpid())
			logqueue.Flush(logqueue.LastWords)
			os.Exit(1)
		}
	})
}

func isPipe(fd int) bool {
	var st syscall.Stat_t
	return fd > 2 && syscall.Fstat(fd, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFIFO
}

// drain begins the drain; the first call counts.
func (w *Worker) drain() {
	w.drainOnce.Do(func() {
		close(w.draining)
		w.tell("STOPPING=1")
		go func() {
			limit := time.NewTimer(w.graceful - w.margin())
			defer limit.Stop()
			select {
			case <-limit.C:
				w.giveUp(errTooLong)
			case <-w.closing.done:
			}
		}()
	})
}

// margin is what is left of the graceful timeout when Context ends: time to give up, to run what OnExit asked for and
// to publish the last numbers before the master kills.
func (w *Worker) margin() time.Duration { return min(w.graceful/5, 3*time.Second) }

func (w *Worker) isDraining() bool {
	select {
	case <-w.draining:
		return true
	default:
		return false
	}
}

// Slot returns the number of this worker's slot, from 0, and -1 for a process that no master started.
func (w *Worker) Slot() int { return w.slot }

// Listeners returns the listeners, in the order of master.Config.Listen, of the sockets that systemd passed, or of
// FromEnvironment's addrs. The slice is the caller's; closing a listener stops accepting and nothing else, the socket
// is the master's.
func (w *Worker) Listeners() []net.Listener {
	out := make([]net.Listener, len(w.listeners))
	for i, l := range w.listeners {
		out[i] = l.Listener
	}
	return out
}

// Listener returns the first listener of that name, which is what stands before the = in master.Config.Listen or in
// FileDescriptorName= of a systemd socket; nil when there is none.
func (w *Worker) Listener(name string) net.Listener {
	for _, l := range w.listeners {
		if l.Name == name {
			return l.Listener
		}
	}
	return nil
}

// Ready tells the master that this worker accepts connections. The worker then gets its share of them, and its predecessor
// is stopped. Serve calls Ready. A second call does nothing. It returns an error when the master cannot be reached.
func (w *Worker) Ready() error {
	if !w.ready.CompareAndSwap(false, true) {
		return nil
	}
	// First the file, then the word to the master: when the master believes this worker ready, scrapes do too.
	storeReady()
	lines := []string{"READY=1"}
	if n, err := storeless(); err != nil {
		lines = append(lines, "X_ONESCRAPE_STORELESS="+strconv.Itoa(n))
		logqueue.Logger().Error("this worker's metrics are in its own memory only and die with it", "err", err, "series", n,
			"slot", w.slot, "pid", os.Getpid())
	}
	if w.watchdog > 0 {
		go w.watch(w.watchdog)
	}
	return w.tell(lines...)
}

// IsReady reports whether Ready was called.
func (w *Worker) IsReady() bool { return w.ready.Load() }

// Status sends the master a short text that says what this worker does. onescrape status shows it, as systemd shows the
// status text of a service.
func (w *Worker) Status(text string) error { return w.tell("STATUS=" + sdnotify.OneLine(text)) }

// tell sends lines to the master, or to systemd; nothing where nobody listens.
func (w *Worker) tell(lines ...string) error {
	if err := w.notify.Send(lines...); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	return nil
}

// Draining returns a channel that is closed when the drain begins.
func (w *Worker) Draining() <-chan struct{} { return w.draining }

// Stopping returns a context that ends when the drain begins. It is Draining as a context.
func (w *Worker) Stopping() context.Context { return w.stopping }

// Context returns the context that ends when requests in flight must give up; Serve makes it the base of every
// request's. context.Cause says why.
func (w *Worker) Context() context.Context { return w.life }

// Linger returns how long after the beginning of the drain the worker still answers on open connections, with Connection:
// close.
func (w *Worker) Linger() time.Duration { return w.linger }

// OnExit has f called after the drain and before the metrics are published for the last time. The function given last is
// called first. Its context ends shortly before the master kills the process.
func (w *Worker) OnExit(f func(context.Context) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onExit = append(w.onExit, f)
}

// Close ends the worker: it closes the listeners, calls the functions given to OnExit, and publishes the metrics for the
// last time. Serve and master.Run call it; a program that uses neither must call it before it ends. It returns the errors
// of OnExit's functions, the same at every call.
func (w *Worker) Close() error {
	w.closing.once.Do(func() {
		w.drain()
		listeners.CloseAll(w.listeners)
		ctx, cancel := context.WithTimeout(context.Background(), max(w.margin(), time.Second))
		defer cancel()
		w.mu.Lock()
		hooks := w.onExit
		w.mu.Unlock()
		var errs []error
		for i := len(hooks) - 1; i >= 0; i-- {
			errs = append(errs, hooks[i](ctx))
		}
		w.closing.err = errors.Join(errs...)
		last, cancelLast := context.WithTimeout(context.Background(), max(w.margin()/3, time.Second))
		defer cancelLast()
		publishLast(last)
		storeDrained()
		close(w.closing.done)
		w.giveUp(context.Canceled)
		logqueue.Flush(logqueue.LastWords)
	})
	return w.closing.err
}

// A worker outlives the reader of its log from its first line on, also one that its own main function writes.
func init() {
	if os.Getenv("ONESCRAPE_SLOT") != "" && os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
		sigpipe.Survive()
	}
}
