package master

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/onescrape/onescrape/master/internal/environment"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// underLoad does something while clients send requests at full speed, over new connections and over kept ones, and
// requires that none failed.
func underLoad(t *testing.T, o options, f func(m *testMaster)) {
	for name, keepAlive := range map[string]bool{"new connections": false, "kept connections": true} {
		t.Run(name, func(t *testing.T) {
			m := startMaster(t, o)
			stop := m.load(8, keepAlive, "/")
			f(m)
			ok, failures := stop()
			t.Logf("%d requests", ok)
			assert.Empty(t, failures)
			assert.NotZero(t, ok)
		})
	}
}

func TestRollingRestartDropsNothing(t *testing.T) {
	long(t)
	underLoad(t, options{"Workers": 3}, func(m *testMaster) {
		before := m.status()
		for range 3 {
			r := m.roll(syscall.SIGHUP)
			assert.Equal(t, Rollout{ID: r.ID, Kind: "reload", State: done, Done: 3, Total: 3}, *r)
		}
		for i, sl := range m.status().Slots {
			assert.NotEqual(t, before.Slots[i].PID, sl.PID)
			assert.Equal(t, 3, sl.Restarts)
		}
	})
}

func TestScalingDropsNothing(t *testing.T) {
	long(t)
	underLoad(t, options{"Workers": 2}, func(m *testMaster) {
		scale := func(n int, sig syscall.Signal) {
			m.signal(sig)
			m.until("the workers are as many as were asked for", func(s Status) bool {
				ready := 0
				for _, sl := range s.Slots {
					if sl.State == "ready" {
						ready++
					}
				}
				return s.Workers == n && len(s.Slots) == n && ready == n
			})
		}
		for range 2 {
			scale(3, syscall.SIGTTIN)
			scale(4, syscall.SIGTTIN)
			scale(3, syscall.SIGTTOU)
			scale(2, syscall.SIGTTOU)
		}
	})
}

func TestRecyclingDropsNothing(t *testing.T) {
	long(t)
	underLoad(t, options{"Workers": 2, "MaxRequests": 300}, func(m *testMaster) {
		m.until("workers were recycled", func(s Status) bool {
			n := 0
			for _, sl := range s.Slots {
				n += sl.Restarts
			}
			return n >= 6
		})
	})
}

func TestMaxAge(t *testing.T) {
	m := startMaster(t, options{"MaxAge": 300 * time.Millisecond})
	m.until("both are replaced", func(s Status) bool {
		return len(s.Slots) == 2 && s.Slots[0].Restarts > 0 && s.Slots[1].Restarts > 0
	})
	body, _ := m.get("http://" + m.status().Metrics + "/metrics")
	assert.NotContains(t, body, `onescrape_worker_restarts_total{reason="recycle"} 0`)
}

// A worker that is killed takes with it what it was answering and nothing else.
func TestKilledWorkersDropOnlyWhatTheyAnswered(t *testing.T) {
	long(t)
	const clients, kills = 8, 20
	m := startMaster(t, options{"Workers": 4})
	stop := m.load(clients, false, "/")
	for range kills {
		s := m.until("all are ready", func(s Status) bool {
			for _, sl := range s.Slots {
				if sl.State != ready {
					return false
				}
			}
			return len(s.Slots) == 4
		})
		pid := s.Slots[rand.IntN(4)].PID
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		m.until("the kill is noticed", func(s Status) bool {
			for _, sl := range s.Slots {
				if sl.PID == pid {
					return false
				}
			}
			return true
		})
	}
	ok, failures := stop()
	t.Logf("%d requests, %d failed over %d kills (%.2f a kill)", ok, len(failures), kills, float64(len(failures))/kills)
	assert.LessOrEqual(t, len(failures), kills*clients)
}

func TestBrokenReleases(t *testing.T) {
	long(t)
	for release, reason := range map[string]string{
		"exit":   "ended before it was ready: exit status 3",
		"silent": "not ready in time",
		"exit0":  "ended before it was ready: exit status 0",
		"finish": "after it was ready: exit status 0",
		"killed": "after it was ready: signal: killed",
		"die":    "after it was ready: exit status 4",
	} {
		t.Run(release, func(t *testing.T) {
			o := options{"ReadySettle": 1500 * time.Millisecond}
			if release == "silent" {
				o["ReadyTimeout"] = 5 * time.Second
			}
			m := startMaster(t, o)
			const clients = 4
			stop := m.load(clients, false, "/")
			before := m.status()
			require.NoError(t, os.WriteFile(m.behavior, []byte(release), 0o600))
			r := m.roll(syscall.SIGHUP)
			assert.Equal(t, abandoned, r.State)
			assert.Contains(t, r.Error, "slot 0: ")
			assert.Contains(t, r.Error, reason)
			assert.Zero(t, r.Done)
			s := m.status()
			for i, sl := range s.Slots {
				assert.Equal(t, before.Slots[i].PID, sl.PID, "the old workers stay")
				assert.Equal(t, ready, sl.State)
			}
			assert.True(t, s.Ready)
			_, failures := stop()
			if strings.Contains(reason, "after it was ready") {
				// It served while it settled, and what it was answering when it died is lost. One that ends well is tried again.
				assert.LessOrEqual(t, len(failures), crashErrors*clients)
			} else {
				assert.Empty(t, failures)
			}
			m.logged("rolling restart abandoned")

			// The next release is a good one.
			require.NoError(t, os.WriteFile(m.behavior, []byte("ok"), 0o600))
			assert.Equal(t, done, m.roll(syscall.SIGHUP).State)
		})
	}
}

// Without a settling time a worker that dies a moment after it was ready still ends the rollout.
func TestReleaseThatDiesDuringTheRollout(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 1})
	// The old worker has something to do, so that the rollout is not over when its successor dies.
	url := m.url("/slow?ms=5000")
	answer := make(chan int, 1)
	go func() {
		_, code := m.get(url)
		answer <- code
	}()
	m.answered("/slow", 1)
	require.NoError(t, os.WriteFile(m.behavior, []byte("die"), 0o600))
	r := m.roll(syscall.SIGHUP)
	assert.Equal(t, abandoned, r.State)
	assert.Contains(t, r.Error, "after it was ready: exit status 4")
	assert.Zero(t, r.Done)
	assert.Equal(t, http.StatusOK, <-answer)
}

// Slots whose workers crash take the new release at once.
func TestRolloutMendsACrashLoop(t *testing.T) {
	long(t)
	m := startMaster(t, nil)
	require.NoError(t, os.WriteFile(m.behavior, []byte("exit"), 0o600))
	require.NoError(t, syscall.Kill(m.status().Slots[1].PID, syscall.SIGKILL))
	s := m.until("the slot fails", func(s Status) bool { return len(s.Slots) == 2 && s.Slots[1].State == failed })
	assert.Equal(t, "exit status 3", s.Slots[1].LastExit)
	assert.True(t, s.Ready, "the other one serves")
	require.NoError(t, os.WriteFile(m.behavior, []byte("ok"), 0o600))
	assert.Equal(t, done, m.roll(syscall.SIGHUP).State)
	m.until("both are ready", func(s Status) bool { return s.Slots[0].State == ready && s.Slots[1].State == ready })
}

// What arrives during a rollout: HUPs become one more, TTIN and TTOU apply afterwards.
func TestSignalsDuringARollout(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 2, "ReadySettle": 300 * time.Millisecond})
	m.signal(syscall.SIGHUP)
	m.until("it runs", func(s Status) bool { return s.Rollout != nil && s.Rollout.State == running })
	for range 3 {
		m.signal(syscall.SIGHUP)
		m.signal(syscall.SIGTTIN)
		time.Sleep(10 * time.Millisecond) // signals of one kind that come together are one
	}
	m.signal(syscall.SIGUSR1)
	s := m.until("the target is another at once", func(s Status) bool { return s.Workers > 2 })
	if s.Rollout.ID == 1 && s.Rollout.State == running {
		assert.Len(t, s.Slots, 2, "but there are no more slots yet")
	}
	s = m.until("all is done", func(s Status) bool {
		return s.Rollout.ID == 2 && s.Rollout.State == done && len(s.Slots) == s.Workers
	})
	assert.Equal(t, 2, s.Rollout.Total)
	m.until("all are ready", func(s Status) bool {
		for _, sl := range s.Slots {
			if sl.State != ready {
				return false
			}
		}
		return s.Rollout.ID == 2
	})
}

func TestTermEndsARollout(t *testing.T) {
	m := startMaster(t, options{"ReadySettle": time.Hour})
	m.signal(syscall.SIGHUP)
	m.until("it runs", func(s Status) bool { return s.Rollout != nil && s.Rollout.State == running })
	m.signal(syscall.SIGTERM)
	assert.Zero(t, m.finished())
	m.logged("the master stops")
}

func TestTheLastWorkerStays(t *testing.T) {
	m := startMaster(t, options{"Workers": 1})
	m.signal(syscall.SIGTTOU)
	m.logged("the last worker stays")
	assert.Equal(t, 1, m.status().Workers)
}

func TestStopSignal(t *testing.T) {
	cfg, err := Config{StopSignal: syscall.SIGQUIT}.complete(true)
	require.NoError(t, err)
	env := environment.Of(environment.Worker{Settings: cfg.settings()}, nil, nil)
	assert.Contains(t, env, "ONESCRAPE_STOP_SIGNAL=3")
	_, err = Config{StopSignal: syscall.SIGKILL}.complete(true)
	assert.Error(t, err)
}

// Connections that wait in the queue of a slot whose worker was killed are answered by the next one.
func TestQueueOutlivesTheWorker(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 1})
	s := m.status()
	require.NoError(t, syscall.Kill(s.Slots[0].PID, syscall.SIGSTOP))
	require.Eventually(t, func() bool { return stoppedWhole(s.Slots[0].PID) }, patient, time.Millisecond)
	codes := make(chan int, 4)
	url := m.url("/")
	for range 4 {
		go func() {
			_, code := m.get(url)
			codes <- code
		}()
	}
	require.Eventually(t, func() bool { return len(establishedAt(s.Addresses[0])) >= 4 }, patient, time.Millisecond)
	require.NoError(t, syscall.Kill(s.Slots[0].PID, syscall.SIGKILL))
	for range 4 {
		assert.Equal(t, http.StatusOK, <-codes)
	}
}

// stoppedWhole reports whether every thread of a process has stopped.
func stoppedWhole(pid int) bool {
	stats, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
	for _, file := range stats {
		text, _ := os.ReadFile(file)
		if i := bytes.LastIndex(text, []byte(") ")); i < 0 || !bytes.HasPrefix(text[i:], []byte(") T")) {
			return false
		}
	}
	return true
}

// establishedAt returns the established connections to an address, from the kernel's table.
func establishedAt(addr string) (lines []string) { return socketsAt(addr, "01") }

// listeningAt returns the listening sockets at an address.
func listeningAt(addr string) (lines []string) { return socketsAt(addr, "0A") }

func socketsAt(addr, state string) (lines []string) {
	text, _ := os.ReadFile("/proc/net/tcp")
	port := addr[strings.LastIndex(addr, ":")+1:]
	suffix := ":" + strings.ToUpper(hex4(port))
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 3 && f[3] == state && strings.HasSuffix(f[1], suffix) {
			lines = append(lines, line)
		}
	}
	return lines
}
