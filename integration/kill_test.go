package integration

import (
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// agree holds what was counted against what the clients have seen: every answer was counted before it was written, and
// nothing was counted that nobody sent.
func agree(t *testing.T, s *server, loads ...*load) {
	t.Helper()
	var answered, sent int64
	for _, l := range loads {
		answered += l.answered.Load()
		sent += l.sent.Load()
	}
	counted := mustScrape(t, s.metrics).sum(s.counter)
	assert.LessOrEqual(t, float64(answered), counted, "requests were answered and not counted")
	assert.LessOrEqual(t, counted, float64(sent), "requests were counted and never sent")
	t.Logf("answered %d <= counted %v <= sent %d", answered, counted, sent)
}

func TestExactUnderSIGKILL(t *testing.T) {
	long(t)
	s := startDemo(t, 4)
	m := startMonitor(s.metrics, monitorOptions{})
	closing := startLoad(s.app, 4, false)
	kept := startLoad(s.app, 4, true)
	rng := rand.New(rand.NewPCG(2, 1))
	for range times(30) {
		var pids []int
		eventually(t, "a worker to kill", func() bool { pids = s.workers(); return len(pids) > 0 })
		pid := pids[rng.IntN(len(pids))]
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		eventually(t, "a successor", func() bool {
			pids := s.workers()
			for _, p := range pids {
				if p == pid {
					return false
				}
			}
			return len(pids) >= 2
		})
	}
	closing.stop()
	kept.stop()
	m.stop(t)
	agree(t, s, closing, kept)
	assert.Positive(t, closing.answered.Load())
	assert.Positive(t, kept.answered.Load())
	t.Logf("%d kills: %d of %d requests failed on new connections, %d of %d on kept ones", times(30), closing.failed.Load(),
		closing.sent.Load(), kept.failed.Load(), kept.sent.Load())
}
