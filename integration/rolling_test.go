package integration

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clients is how many ask at once in the tests of what must not fail.
const clients = 16

// watched is a demo under load, with a monitor on its master and one on another process that reads the same store.
type watched struct {
	*server
	loads    []*load
	monitors []*monitor
}

// watch starts the demo with all who look at it. keep says, for each of the loads, whether its clients keep connections.
func watch(t *testing.T, workers int, keep []bool, flags ...string) *watched {
	t.Helper()
	w := &watched{server: startDemo(t, workers, append(flags, quick...)...)}
	second := startReader(t, w.store)
	w.monitors = []*monitor{startMonitor(w.metrics, monitorOptions{}), startMonitor(second, monitorOptions{})}
	for _, k := range keep {
		w.loads = append(w.loads, startLoad(w.app, clients/len(keep), k))
	}
	return w
}

// startReader starts a second process that scrapes a store and changes nothing in it, and returns its URL.
func startReader(t *testing.T, store string) string {
	t.Helper()
	addr := freeAddress(t)
	p := launch(t, exec.Command(onescrape, "serve", "--store.path", store, "--web.listen-address", addr,
		"--no-store.fold"))
	url := "http://" + addr + "/metrics"
	eventually(t, "the second reader", func() bool {
		require.True(t, p.alive(), p.stderr.String())
		_, err := scrape(url)
		return err == nil
	})
	return url
}

// done stops the load and the monitors, and holds that nothing was counted wrong.
func (w *watched) done(t *testing.T) (sent, failed int64, failures []string) {
	t.Helper()
	for _, l := range w.loads {
		l.stop()
		sent += l.sent.Load()
		failed += l.failed.Load()
		failures = append(failures, l.failures()...)
		t.Logf("%d requests, %d failed, the slowest took %v", l.sent.Load(), l.failed.Load(),
			time.Duration(l.slowest.Load()).Round(time.Millisecond))
	}
	for _, m := range w.monitors {
		m.stop(t)
	}
	require.True(t, w.alive())
	agree(t, w.server, w.loads...)
	return sent, failed, failures
}

// noneFailed is done for what must not cost a request.
func (w *watched) noneFailed(t *testing.T) {
	t.Helper()
	sent, failed, failures := w.done(t)
	assert.Positive(t, sent)
	assert.Zero(t, failed, "%d of %d: %v", failed, sent, failures)
}

func TestZeroFailed(t *testing.T) {
	long(t)
	for _, kept := range []bool{false, true} {
		name := map[bool]string{false: "new connections", true: "kept connections"}[kept]
		t.Run(name+", 10 reloads", func(t *testing.T) {
			w := watch(t, 3, []bool{kept})
			for range times(10) {
				before := w.workers()
				w.control(t, "reload")
				for _, pid := range w.workers() {
					assert.NotContains(t, before, pid)
				}
			}
			w.noneFailed(t)
		})
		t.Run(name+", 10 workers more, then less", func(t *testing.T) {
			w := watch(t, 2, []bool{kept})
			w.control(t, "scale", "12")
			assert.Len(t, w.workers(), 12)
			w.control(t, "scale", "2")
			assert.Len(t, w.workers(), 2)
			w.noneFailed(t)
		})
		t.Run(name+", 5 upgrades", func(t *testing.T) {
			w := watch(t, 3, []bool{kept})
			for range times(5) {
				before := w.workers()
				w.control(t, "upgrade")
				for _, pid := range w.workers() {
					assert.NotContains(t, before, pid)
				}
			}
			assert.Equal(t, w.pid(), w.status().PID)
			w.noneFailed(t)
		})
		t.Run(name+", 20 recyclings", func(t *testing.T) {
			w := watch(t, 4, []bool{kept}, "--max-requests", "2000")
			seen := map[int]bool{}
			eventually(t, "20 successors", func() bool {
				for _, pid := range w.workers() {
					seen[pid] = true
				}
				return len(seen) >= 4+times(20)
			})
			w.noneFailed(t)
		})
	}
}

// Everything at once, in an order that is the same in every run.
func TestZeroFailedMixed(t *testing.T) {
	long(t)
	w := watch(t, 4, []bool{false, true}, "--max-requests", "20000")
	rng := rand.New(rand.NewPCG(3, 1))
	signals := []syscall.Signal{syscall.SIGHUP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGUSR1, syscall.SIGUSR2}
	for end := time.Now().Add(time.Duration(times(60)) * time.Second); time.Now().Before(end); {
		sig := signals[rng.IntN(len(signals))]
		if n := w.status().Workers; sig == syscall.SIGTTIN && n >= 8 || sig == syscall.SIGTTOU && n <= 2 {
			continue
		}
		w.signal(sig)
		// A pause is part of what is sent, not a wait for something.
		time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
	}
	w.noneFailed(t)
}

// A killed worker costs what it was answering and nothing that waited for it. Workers are killed when they have worked for
// a while: one that dies again and again is started ever more slowly, and what waits for it waits as long.
func TestSIGKILLCostsOnlyWhatWasAnswered(t *testing.T) {
	long(t)
	const workers = 4
	kills := times(100)
	w := watch(t, workers, []bool{false})
	rng := rand.New(rand.NewPCG(3, 2))
	for n := range kills {
		if n > 0 && n%(2*workers) == 0 {
			// A slot whose workers die again and again is in a crash loop, until another release is installed.
			w.control(t, "reload")
		}
		var victims []int
		eventually(t, "four workers", func() bool {
			victims = nil
			slots := w.status().Slots
			for _, slot := range slots {
				if slot.State != "ready" {
					return false
				}
				if time.Since(slot.Started) > 1500*time.Millisecond {
					victims = append(victims, slot.PID)
				}
			}
			return len(slots) == workers && len(victims) > 0
		})
		pid := victims[rng.IntN(len(victims))]
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		eventually(t, "the death to be noticed", func() bool { return !slices.Contains(w.workers(), pid) })
	}
	_, failed, failures := w.done(t)
	t.Logf("%d kills, %d failed", kills, failed)
	assert.LessOrEqual(t, failed, int64(kills), "more than one a kill: %v", failures)
	for _, f := range failures {
		assert.NotContains(t, f, "refused")
		assert.NotContains(t, f, "timeout")
	}
}

// The metrics port answers every scrape while the master replaces itself, and no other master could take the store
// meanwhile.
func TestMetricsPortDuringUpgrades(t *testing.T) {
	long(t)
	s := startDemo(t, 2, quick...)
	m := startMonitor(s.metrics, monitorOptions{})
	free, stop := make(chan string, 1), make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if pid, err := holder(s.store); err != nil || pid != s.pid() {
				select {
				case free <- fmt.Sprintf("%s holds the lock of pid %d: %v", strconv.Itoa(pid), s.pid(), err):
				default:
				}
			}
		}
	}()
	for range times(20) {
		s.control(t, "upgrade")
	}
	close(stop)
	<-stopped
	select {
	case text := <-free:
		assert.Fail(t, "the store's lock was free", text)
	default:
	}
	m.stop(t)
}
