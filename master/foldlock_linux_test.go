package master

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A process that is stopped in the middle of a fold holds the lock of the fold for as long as it likes.
func TestMasterEndsWhileAnotherHoldsTheFoldLock(t *testing.T) {
	long(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			m := startMaster(t, options{"Workers": 1})
			file, err := os.OpenFile(filepath.Join(m.store, "lock"), os.O_RDWR, 0)
			require.NoError(t, err)
			defer file.Close()
			lock := unix.Flock_t{Type: unix.F_WRLCK, Start: 1, Len: 1}
			require.NoError(t, unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLKW, &lock))
			m.logged("holds the lock of the fold")
			assert.Contains(t, m.log.String(), fmt.Sprint("pid=", os.Getpid()))
			m.signal(sig)
			code := m.finished()
			if sig == syscall.SIGTERM {
				assert.Zero(t, code)
			}
		})
	}
}
