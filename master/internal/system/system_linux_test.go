package system

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// How a child has ended is the same, whether it was reaped or not.
func TestEndedUnreaped(t *testing.T) {
	for _, script := range []string{"exit 0", "exit 7", "kill -9 $$", "ulimit -c 0; kill -QUIT $$"} {
		null, err := os.Open(os.DevNull)
		require.NoError(t, err)
		defer null.Close()
		pid, err := Machine{}.Start(Command{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Files: []uintptr{null.Fd(), 1, 2},
			OwnGroup: true})
		require.NoError(t, err)
		assert.True(t, leadsGroup(pid))
		var got, want syscall.WaitStatus
		require.Eventually(t, func() bool {
			status, ended := Machine{}.Ended(pid, true)
			got = status
			return ended
		}, time.Minute, time.Millisecond)
		_, err = syscall.Wait4(pid, &want, 0, nil)
		require.NoError(t, err)
		assert.Equal(t, want, got, script)
	}
}
