package master

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStoreIsRenamedWhileInUse(t *testing.T) {
	long(t)
	m := startMaster(t, nil)
	base := "http://" + m.status().Metrics
	has := func(path, text string) {
		t.Helper()
		require.Eventually(t, func() bool {
			body, code := m.get(base + path)
			return code == http.StatusOK && strings.Contains(body, text)
		}, patient, 10*time.Millisecond, text)
	}
	has("/metrics", "onescrape_store_moved_total 0")
	away := m.store + ".old"
	require.NoError(t, os.Rename(m.store, away))
	defer os.RemoveAll(away)
	has("/api/v1/status", "the store was renamed or removed")
	m.logged("the store is no longer at its path")
	require.NoError(t, os.Mkdir(m.store, 0o700))
	has("/api/v1/status", "the store was replaced")
	has("/", "the store was replaced")
	require.NoError(t, os.Remove(m.store))
	require.NoError(t, os.Rename(away, m.store))
	m.logged("the store is at its path again")
	has("/metrics", "onescrape_store_moved_total 1")
	assert.Equal(t, 1, strings.Count(m.log.String(), "the store is no longer at its path"), "logged once")
	assert.Equal(t, done, m.roll(syscall.SIGUSR2).State)
	has("/metrics", "onescrape_store_moved_total 1")
}
