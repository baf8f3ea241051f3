package master

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A master that at its start may not open what it needs for its workers goes on trying, and has them when it may.
func TestTemporaryErrorAtFirstStart(t *testing.T) {
	long(t)
	const workers = 40
	m := launchMaster(t, options{"Workers": workers, "Command": []string{"sleep", "3600"}, "ReadyTimeout": 100 * time.Millisecond,
		"GracefulTimeout": time.Second}, "ONESCRAPE_TEST_FILES=40")
	m.logged("it is tried again")
	m.logged("worker not started")
	var limit unix.Rlimit
	require.NoError(t, unix.Prlimit(m.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &limit))
	limit.Cur = limit.Max
	require.NoError(t, unix.Prlimit(m.cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil))
	s := m.until("all workers are ready", func(s Status) bool {
		n := 0
		for _, sl := range s.Slots {
			if sl.State == ready {
				n++
			}
		}
		return n == workers
	})
	assert.Equal(t, workers, s.Workers)
	assert.Empty(t, s.Shortage)
}
