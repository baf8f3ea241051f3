package master

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fewFiles is a variable for launchMaster: the master may have 128 descriptors.
const fewFiles = "ONESCRAPE_TEST_FEW_FILES=1"

// deafScraper asks for the metrics and does not read the answer.
func deafScraper(t *testing.T, address string) {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	c, err := d.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	fmt.Fprint(c, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
}

func TestScrapersThatDoNotRead(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 1})
	m.release("big")
	require.Equal(t, done, m.roll(syscall.SIGHUP).State)
	metrics := m.status().Metrics
	for range 8 {
		deafScraper(t, metrics)
	}
	scrape := func() int {
		_, code := m.get("http://" + metrics + "/metrics")
		return code
	}
	require.Eventually(t, func() bool { return scrape() == http.StatusOK }, patient, time.Millisecond)
	for range 3 {
		assert.Equal(t, http.StatusOK, scrape())
	}

	// The upgrade takes its time for one that has just come, and what happens meanwhile is not put off.
	m.release("ok")
	before := m.status().Slots[0].PID
	deafScraper(t, metrics)
	assert.Equal(t, http.StatusOK, scrape())
	m.signal(syscall.SIGUSR2)
	m.logged("the new program has passed the check")
	require.NoError(t, syscall.Kill(before, syscall.SIGKILL))
	s := m.until("the upgrade is over", func(s Status) bool {
		return s.Rollout.Kind == "upgrade" && s.Rollout.State != running
	})
	assert.Equal(t, done, s.Rollout.State)
	_, meanwhile, _ := strings.Cut(m.log.String(), "the new program has passed the check")
	meanwhile, _, _ = strings.Cut(meanwhile, "master upgraded")
	assert.Contains(t, meanwhile, "worker ready", "the killed worker was replaced before the exec")
	assert.Equal(t, http.StatusOK, scrape())
}

// A stop waits for scrapes too, and INT cuts that short.
func TestStopWhileScrapersDoNotRead(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 1})
	m.release("big")
	require.Equal(t, done, m.roll(syscall.SIGHUP).State)
	metrics := m.status().Metrics
	deafScraper(t, metrics)
	_, code := m.get("http://" + metrics + "/metrics")
	assert.Equal(t, http.StatusOK, code)
	m.signal(syscall.SIGTERM)
	m.until("the worker has gone", func(s Status) bool { return s.Slots[0].PID == 0 })
	m.signal(syscall.SIGINT)
	assert.Zero(t, m.finished())
	assert.Contains(t, m.log.String(), `msg="stopping at once"`, "the control goroutine heard it")
}

func TestIdleScrapersUnderFewDescriptors(t *testing.T) {
	long(t)
	m := startMaster(t, nil, fewFiles)
	metrics := m.status().Metrics
	for range 200 {
		c, err := net.Dial("tcp", metrics)
		require.NoError(t, err)
		defer c.Close()
	}
	for range 3 {
		before := m.status().Slots[0].PID
		require.NoError(t, syscall.Kill(before, syscall.SIGKILL))
		m.until("it has a successor", func(s Status) bool { return s.Slots[0].PID != before && s.Slots[0].State == ready })
		body, code := m.get("http://" + metrics + "/metrics")
		assert.Equal(t, http.StatusOK, code, body)
	}
	assert.Equal(t, done, m.roll(syscall.SIGUSR2).State)
	assert.NotContains(t, m.log.String(), "too many open files")
}
