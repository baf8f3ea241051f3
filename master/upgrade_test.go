package master

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

func (m *testMaster) configure(o options) {
	m.t.Helper()
	text, err := json.Marshal(o)
	require.NoError(m.t, err)
	require.NoError(m.t, os.WriteFile(m.config, text, 0o600))
}

// scrapes asks for the metrics over and over until the function returned is called, and checks that every scrape is
// answered and that no counter goes back.
func (m *testMaster) scrapes() (stop func() int) {
	counter := regexp.MustCompile(`(?m)^(\w+(?:_total|_count|_bucket|_sum)(?:\{[^}]*\})?) (\S+)$`)
	url := "http://" + m.status().Metrics + "/metrics"
	last := make(map[string]float64)
	var wg sync.WaitGroup
	done, n := make(chan struct{}), 0
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
			body, code := m.get(url)
			if !assert.Equal(m.t, http.StatusOK, code, body) {
				continue
			}
			n++
			for _, match := range counter.FindAllStringSubmatch(body, -1) {
				v, err := strconv.ParseFloat(match[2], 64)
				if assert.NoError(m.t, err) && assert.GreaterOrEqual(m.t, v, last[match[1]], match[1]) {
					last[match[1]] = v
				}
			}
		}
	})
	end := sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
	m.t.Cleanup(end)
	return func() int {
		end()
		return n
	}
}

// locked watches the store's lock until the function returned is called.
func (m *testMaster) locked() (stop func()) {
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			d, err := openStore(m.store)
			if !assert.NoError(m.t, err) {
				return
			}
			l, err := d.LockMaster()
			if !assert.ErrorIs(m.t, err, shmstore.ErrInUse) {
				l.Close()
			}
			d.Close()
			time.Sleep(time.Millisecond)
		}
	})
	end := sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
	m.t.Cleanup(end)
	return end
}

func TestUpgradeDropsNothing(t *testing.T) {
	long(t)
	underLoad(t, options{"Workers": 2}, func(m *testMaster) {
		before := m.status()
		scrapes, lock := m.scrapes(), m.locked()
		for i := range 3 {
			r := m.roll(syscall.SIGUSR2)
			assert.Equal(t, Rollout{ID: i + 1, Kind: "upgrade", State: done, Done: 2, Total: 2}, *r)
		}
		t.Logf("%d scrapes", scrapes())
		lock()
		after := m.status()
		assert.Equal(t, before.PID, after.PID)
		assert.True(t, before.Started.Equal(after.Started))
		for i, sl := range after.Slots {
			assert.NotEqual(t, before.Slots[i].PID, sl.PID)
			assert.Equal(t, 3, sl.Restarts)
		}
		body, _ := m.get("http://" + after.Metrics + "/metrics")
		assert.Contains(t, body, `onescrape_rollouts_total{kind="upgrade",result="done"} 3`)
		assert.Contains(t, body, `onescrape_worker_restarts_total{reason="upgrade"} 6`)
	})
}

func TestUpgradeOfCommandWorkers(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Command": []string{"self"}, "ReadySettle": 10 * time.Millisecond})
	before := m.status()
	assert.Equal(t, done, m.roll(syscall.SIGUSR2).State)
	assert.NotEqual(t, before.Slots[0].PID, m.status().Slots[0].PID)
}

func TestUpgradeAppliesTheNewConfiguration(t *testing.T) {
	long(t)
	first, second := freeAddress(t), freeAddress(t)
	m := startMaster(t, options{"Workers": 2, "Listen": []string{first}})
	m.configure(options{"Workers": 3, "Listen": []string{"other=" + second, "main=" + first}})
	assert.Equal(t, done, m.roll(syscall.SIGUSR2).State)
	s := m.until("three workers are ready", func(s Status) bool {
		return len(s.Slots) == 3 && s.Slots[2].State == ready
	})
	assert.Equal(t, []string{second, first}, s.Addresses)
	for _, a := range s.Addresses {
		_, code := m.get("http://" + a)
		assert.Equal(t, http.StatusOK, code)
	}

	m.configure(options{"Workers": 1, "Listen": []string{second}, "MetricsListen": first + "0"})
	m.configure(options{"Workers": 1, "Listen": []string{second}})
	assert.Equal(t, done, m.roll(syscall.SIGUSR2).State)
	m.until("one worker is left", func(s Status) bool { return len(s.Slots) == 1 && s.Slots[0].State == ready })
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", first)
		if err == nil {
			c.Close()
		}
		return err != nil
	}, patient, 10*time.Millisecond, "the address that was given up is closed")
	_, code := m.get("http://" + second)
	assert.Equal(t, http.StatusOK, code)
}

// An address that another process holds leaves everything as it is.
func TestUpgradeToAnAddressInUse(t *testing.T) {
	long(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	m := startMaster(t, nil)
	before := m.status()
	m.configure(options{"Listen": []string{"127.0.0.1:0", l.Addr().String()}})
	r := m.roll(syscall.SIGUSR2)
	assert.Equal(t, abandoned, r.State)
	assert.Contains(t, r.Error, "in use by")
	after := m.status()
	assert.Equal(t, before.Addresses, after.Addresses)
	assert.Equal(t, before.Slots[0].PID, after.Slots[0].PID)
	_, code := m.get(m.url("/"))
	assert.Equal(t, http.StatusOK, code)
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func TestUpgradeToABrokenProgram(t *testing.T) {
	long(t)
	for name, test := range map[string]struct {
		breakIt func(m *testMaster)
		reason  string
	}{
		"missing": {func(m *testMaster) { require.NoError(t, os.Remove(m.program)) }, "is not there"},
		"garbage": {func(m *testMaster) {
			require.NoError(t, os.Remove(m.program))
			require.NoError(t, os.WriteFile(m.program, []byte("garbage"), 0o700))
		}, "cannot be executed"},
		"crashes": {func(m *testMaster) { require.NoError(t, os.WriteFile(m.config, []byte("crash"), 0o600)) },
			"this release is broken"},
		"hangs": {func(m *testMaster) { require.NoError(t, os.WriteFile(m.config, []byte("hang"), 0o600)) },
			"did not pass the check in time"},
		"is another program": {func(m *testMaster) { require.NoError(t, os.WriteFile(m.config, []byte("other"), 0o600)) },
			"without reaching master.Run"},
		"refuses its configuration": {func(m *testMaster) { m.configure(options{"Workers": -1}) }, "Config.Workers is -1"},
	} {
		t.Run(name, func(t *testing.T) {
			m := startMaster(t, options{"ReadyTimeout": 3 * time.Second})
			before := m.status()
			stop := m.load(2, false, "/")
			test.breakIt(m)
			r := m.roll(syscall.SIGUSR2)
			assert.Equal(t, abandoned, r.State)
			assert.Equal(t, "upgrade", r.Kind)
			assert.Contains(t, r.Error, test.reason)
			after := m.status()
			assert.True(t, after.Ready)
			for i, sl := range after.Slots {
				assert.Equal(t, before.Slots[i].PID, sl.PID)
			}
			_, failures := stop()
			assert.Empty(t, failures)
		})
	}
}

// A master whose store cannot be opened any more does not end itself by executing one that would have to open it.
func TestUpgradeWithoutItsStore(t *testing.T) {
	long(t)
	for name, test := range map[string]struct {
		spoil, mend func(store string) error
	}{
		"removed": {
			func(store string) error { return os.Rename(store, store+"-away") },
			func(store string) error { return os.Rename(store+"-away", store) },
		},
		"replaced": {
			func(store string) error {
				if err := os.Rename(store, store+"-away"); err != nil {
					return err
				}
				d, err := shmstore.OpenDir(store, shmstore.DirOptions{Create: true})
				if err != nil {
					return err
				}
				return d.Close()
			},
			func(store string) error { return errors.Join(os.RemoveAll(store), os.Rename(store+"-away", store)) },
		},
		"open to others": {
			func(store string) error { return os.Chmod(store, 0o770) },
			func(store string) error { return os.Chmod(store, 0o700) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := startMaster(t, nil)
			pids := []int{m.status().Slots[0].PID, m.status().Slots[1].PID}
			url := m.url("/")
			require.NoError(t, test.spoil(m.store))
			m.signal(syscall.SIGUSR2)
			require.Eventually(t, func() bool { return strings.Contains(m.log.String(), "upgrade abandoned") }, patient,
				5*time.Millisecond)
			assert.Contains(t, m.log.String(), "restart the service")
			for range 20 {
				_, code := m.get(url)
				require.Equal(t, 200, code)
			}
			require.NoError(t, test.mend(m.store))
			m.signal(syscall.SIGUSR2)
			s := m.until("an upgrade", func(s Status) bool { return s.Rollout != nil && s.Rollout.State == done })
			assert.NotContains(t, pids, s.Slots[0].PID)
		})
	}
}

// A link that was switched to another release is followed.
func TestUpgradeFollowsALink(t *testing.T) {
	long(t)
	m := startMaster(t, nil)
	self, err := os.Executable()
	require.NoError(t, err)
	text, err := os.ReadFile(self)
	require.NoError(t, err)
	next := m.program + "-next"
	require.NoError(t, os.WriteFile(next, text, 0o700))
	require.NoError(t, os.Symlink(next, m.program+"-link"))
	require.NoError(t, os.Rename(m.program+"-link", m.program))
	exe := func(pid int) string {
		link, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
		return link
	}
	if exe(os.Getpid()) == "" {
		t.Skip("this system does not show what a process executes")
	}
	assert.Equal(t, done, m.roll(syscall.SIGHUP).State)
	s := m.status()
	assert.Equal(t, next, exe(s.Slots[0].PID))
	assert.Equal(t, self, exe(s.PID))
	assert.Equal(t, done, m.roll(syscall.SIGUSR2).State)
	assert.Equal(t, next, exe(s.PID))
}

// A storm of signals over many upgrades: what can be lost is a signal, never the service.
func TestSignalStorm(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 2})
	stop := m.load(2, true, "/")
	scrapes := m.scrapes()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		signals := []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTTIN, syscall.SIGTTOU,
			syscall.SIGUSR2, syscall.SIGUSR1, syscall.SIGTTOU}
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-time.After(7 * time.Millisecond):
				m.cmd.Process.Signal(signals[i%len(signals)])
			}
		}
	})
	upgrades := func() int { return strings.Count(m.log.String(), "master upgraded") }
	assert.Eventually(t, func() bool { return upgrades() >= 5 }, 3*patient, 10*time.Millisecond)
	close(done)
	wg.Wait()
	s := m.until("it comes to rest", func(s Status) bool {
		for _, sl := range s.Slots {
			if sl.State != ready {
				return false
			}
		}
		return s.Ready && len(s.Slots) == s.Workers && s.Rollout.State != running
	})
	assert.Equal(t, m.cmd.Process.Pid, s.PID)
	_, failures := stop()
	assert.Empty(t, failures)
	t.Logf("%d upgrades, %d scrapes, %d workers in the end", upgrades(), scrapes(), s.Workers)
}

// What a worker starts with after an upgrade: no signal blocked, none ignored.
func TestSignalsOfWorkersAfterAnUpgrade(t *testing.T) {
	long(t)
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("this system does not show it")
	}
	m := startMaster(t, options{"Workers": 1, "Command": []string{"sleep", "3600"}, "ReadyTimeout": 200 * time.Millisecond,
		"ReadySettle": time.Millisecond})
	sets := func() map[string]string {
		out := make(map[string]string)
		text, err := os.ReadFile("/proc/" + strconv.Itoa(m.status().Slots[0].PID) + "/status")
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			if key, value, _ := strings.Cut(line, ":"); key == "SigBlk" || key == "SigIgn" {
				out[key] = strings.TrimSpace(value)
			}
		}
		return out
	}
	before := sets()
	assert.Equal(t, "0000000000000000", before["SigBlk"])
	for range 2 {
		require.Equal(t, done, m.roll(syscall.SIGUSR2).State)
		assert.Equal(t, before, sets())
	}
}
