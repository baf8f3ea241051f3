package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/master"
	"github.com/onescrape/onescrape/worker"
)

// roles are what this binary is as a worker. They run under onescrape run, which does not know them from any server.
var roles = map[string]func() error{
	"model":  inWorker(writeModel),
	"series": inWorker(writeSeries),
	"idle":   inWorker(func(*worker.Worker) error { return nil }),
	"holder": holdAddress,
	"web":    serveWeb,
	"orphan": inWorker(makeOrphan),
	"native": inWorker(observeNatives),

	"exported": serveExported,
	"oracle":   inWorker(writeOracle),
	"embedded": embed,
	"measured": serveMeasured,
}

// asRole is the command and the environment of this binary in a role.
func asRole(name string, env ...string) (argv, environ []string) {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return []string{self}, append(env, role+"="+name)
}

// inWorker makes a worker of a function: it says READY=1 when the function has returned, and stays until it is stopped.
func inWorker(f func(*worker.Worker) error) func() error {
	return func() error {
		w, err := worker.FromEnvironment(context.Background())
		if err != nil {
			return err
		}
		if err := f(w); err != nil {
			return err
		}
		if err := w.Ready(); err != nil {
			return err
		}
		<-w.Draining()
		return w.Close()
	}
}

// seriesCount, in the environment, is how many counters of three labels the role "series" makes.
const seriesCount = "ONESCRAPE_TEST_SERIES"

func writeSeries(*worker.Worker) error {
	n, err := strconv.Atoi(os.Getenv(seriesCount))
	if err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	c := worker.NewCounterVec(prometheus.CounterOpts{
		Name: "http_requests_total", Help: "Requests.",
	}, []string{"method", "path", "code"})
	for i := range n {
		c.WithLabelValues([]string{"GET", "POST"}[i%2], fmt.Sprintf("/api/v1/things/%d", i/2), "200").Inc()
	}
	return nil
}

// holdAddress listens on the address in ONESCRAPE_TEST_ADDRESS with SO_REUSEPORT until it is told to stop.
func holdAddress() error {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) { set = reusePort(fd) })
		return errors.Join(err, set)
	}}
	l, err := config.Listen(context.Background(), "tcp", os.Getenv("ONESCRAPE_TEST_ADDRESS"))
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Println("holding", l.Addr())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return nil
}

// lifetime, in the environment, is how long the role "web" lives after it said READY=1.
const lifetime = "ONESCRAPE_TEST_LIFETIME"

// serveWeb is a server whose answer is the value of ONESCRAPE_TEST_RELEASE.
func serveWeb() error {
	w, err := worker.FromEnvironment(context.Background())
	if err != nil {
		return err
	}
	if life, err := time.ParseDuration(os.Getenv(lifetime)); err == nil {
		time.AfterFunc(life, func() { os.Exit(9) })
	}
	requests := worker.NewCounter(prometheus.CounterOpts{Name: "web_requests_total", Help: "Requests."})
	release := os.Getenv("ONESCRAPE_TEST_RELEASE")
	return w.Serve(&http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		requests.Inc()
		fmt.Fprint(rw, release)
	})})
}

// embed is a prefork server of somebody else's, which has the store in ONESCRAPE_TEST_STORE and no workers at the moment.
func embed() error {
	store, err := master.Embed(os.Getenv(exportStore), aggregate.Options{})
	if err != nil {
		return err
	}
	defer store.Close()
	fmt.Println("serving")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return nil
}

// makeOrphan leaves a process whose parent is gone, which ends soon after: who is pid 1 has to reap it.
func makeOrphan(*worker.Worker) error {
	return exec.Command("sh", "-c", "sleep 0.2 &").Run()
}
