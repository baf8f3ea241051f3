package master

import (
	"net/http"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// While the workers of a slot crash soon after READY=1, nothing is steered there: the other slots answer.
func TestRequestsBehindACrashLoop(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 3, "Linger": 50 * time.Millisecond})
	before := m.status()
	good := []string{strconv.Itoa(before.Slots[0].PID), strconv.Itoa(before.Slots[1].PID)}
	m.release("die 2s")
	require.NoError(t, syscall.Kill(before.Slots[2].PID, syscall.SIGKILL))
	last := before.Slots[2].PID
	// The first one may be trusted: the worker before it had perhaps settled.
	for i := range 3 {
		s := m.until("the slot has another worker that is ready", func(s Status) bool {
			return len(s.Slots) == 3 && s.Slots[2].PID != last && s.Slots[2].State == ready
		})
		last = s.Slots[2].PID
		if i == 0 {
			continue
		}
		for range 40 {
			body, code := m.get(m.url("/"))
			require.Equal(t, http.StatusOK, code, body)
			assert.Contains(t, good, body)
		}
	}
	// One that settles is steered to again.
	m.release("ok")
	require.Eventually(t, func() bool {
		body, _ := m.get(m.url("/"))
		return body == strconv.Itoa(m.status().Slots[2].PID)
	}, patient, 10*time.Millisecond)
}

// What waits in the queue of a slot gets a worker soon, however long the slot's backoff has become.
func TestQueueBehindACrashLoop(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 1, "Linger": 50 * time.Millisecond})
	answers := m.queue(4)
	m.release("exit")
	require.NoError(t, syscall.Kill(m.status().Slots[0].PID, syscall.SIGKILL))
	m.until("many workers were started", func(s Status) bool { return len(s.Slots) == 1 && s.Slots[0].Restarts >= 14 })
	m.release("ok")
	for range 4 {
		assert.Equal(t, http.StatusOK, <-answers)
	}
}

// queue stops the last slot's worker and sends requests until so many wait in its queue. Their status codes come through
// the channel.
func (m *testMaster) queue(n int) <-chan int {
	m.t.Helper()
	s := m.status()
	pid := s.Slots[len(s.Slots)-1].PID
	require.NoError(m.t, syscall.Kill(pid, syscall.SIGSTOP))
	require.Eventually(m.t, func() bool { return stoppedWhole(pid) }, patient, time.Millisecond)
	answers := make(chan int, 1000)
	url := m.url("/")
	for range 50 * len(s.Slots) {
		if len(establishedAt(s.Addresses[0])) >= n {
			return answers
		}
		go func() {
			_, code := m.get(url)
			answers <- code
		}()
		time.Sleep(20 * time.Millisecond) // those of other slots are answered meanwhile
	}
	require.Fail(m.t, "nothing waits in the queue")
	return nil
}

// A slot whose worker hangs is given up: what waits in its queue is answered by another worker.
func TestScaleDownOfAHungWorker(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 2, "GracefulTimeout": 500 * time.Millisecond, "Linger": 50 * time.Millisecond})
	hung := m.status().Slots[1].PID
	answers := m.queue(3)
	m.signal(syscall.SIGTTOU)
	m.until("the slot is given up", func(s Status) bool { return len(s.Slots) == 1 })
	for range 3 {
		assert.Equal(t, http.StatusOK, <-answers)
	}
	assert.Error(t, syscall.Kill(hung, 0))
	m.logged("another worker is started to answer them")
	require.Eventually(t, func() bool { return len(listeningAt(m.status().Addresses[0])) == 1 }, patient, 5*time.Millisecond,
		"the socket is closed")
}
