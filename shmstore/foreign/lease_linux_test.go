package foreign

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A lease is refused for as long as anybody has the file open or mapped, for reading or writing.
func TestLease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, make([]byte, 4096), 0o600))
	try := func() error {
		f, err := os.Open(path)
		require.NoError(t, err)
		defer f.Close()
		return lease(f)
	}
	require.NoError(t, try())
	for _, flag := range []int{os.O_RDONLY, os.O_RDWR} {
		f, err := os.OpenFile(path, flag, 0)
		require.NoError(t, err)
		assert.ErrorIs(t, try(), errLeased)
		protection := unix.PROT_READ
		if flag == os.O_RDWR {
			protection |= unix.PROT_WRITE
		}
		memory, err := unix.Mmap(int(f.Fd()), 0, 4096, protection, unix.MAP_SHARED)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		assert.ErrorIs(t, try(), errLeased)
		require.NoError(t, unix.Munmap(memory))
		assert.NoError(t, try())
	}
}

// A process that is there counts as one that may have the file, unless it is younger than the file or only a zombie.
func TestMayHave(t *testing.T) {
	p := newProcesses()
	now := unix.NsecToTimespec(time.Now().UnixNano())
	assert.True(t, p.mayHave(&Kind{PID: os.Getpid()}, &unix.Stat_t{Mtim: now}))
	assert.False(t, p.mayHave(&Kind{PID: os.Getpid()}, &unix.Stat_t{}), "the pid was another process's")
	assert.False(t, p.mayHave(&Kind{PID: 1 << 22}, &unix.Stat_t{Mtim: now}), "no process has that pid")
	assert.True(t, p.mayHave(&Kind{}, &unix.Stat_t{Mtim: now}), "it has no pid")

	zombie, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
	require.NoError(t, err)
	defer zombie.Wait()
	require.Eventually(t, func() bool {
		return !newProcesses().mayHave(&Kind{PID: zombie.Pid}, &unix.Stat_t{Mtim: now})
	}, time.Minute, time.Millisecond)
}
