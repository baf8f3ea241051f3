package aggregate

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// withoutDescriptors calls fn while this process can open no file.
func withoutDescriptors(t *testing.T, fn func()) {
	t.Helper()
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	low := limit
	low.Cur = 0
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	_, err := os.Open("/dev/null")
	fn()
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	require.ErrorIs(t, err, unix.EMFILE)
}

// A process uses cells again that an archive has taken. Who cannot read that archive must not miss them.
func TestSumsStayWhileTheStoreCannotBeListed(t *testing.T) {
	dir := newDir(t)
	s, folding := openStore(t, dir, Options{}), openStore(t, dir, Options{})
	family := counterFamily("c_total", "l")
	shows, deletes := startLocal(t, dir, 0), startLocal(t, dir, 1)
	x := []string{"x"}
	shows.do(action{Do: "add", Family: family, Values: x, V: 1})
	deletes.do(action{Do: "add", Family: family, Values: x, V: 10})
	assert.Equal(t, "c_total{l=\"x\"} 11\n", text(t, s))
	shows.do(action{Do: "add", Family: family, Values: x, V: 1})
	withoutDescriptors(t, func() { assert.Equal(t, "c_total{l=\"x\"} 12\n", text(t, s), "the files count on") })
	deletes.do(action{Do: "delete", Family: family, Values: x}, action{Do: "release"})
	mustFold(t, folding)
	deletes.do(action{Do: "make", Family: family, Values: []string{"y"}})
	shows.do(action{Do: "add", Family: family, Values: x, V: 1})
	withoutDescriptors(t, func() {
		assert.Equal(t, "c_total{l=\"x\"} 12\n", text(t, s), "as it was")
		assert.Equal(t, "c_total{l=\"x\"} 12\n", text(t, s))
	})
	assert.Equal(t, "c_total{l=\"x\"} 13\nc_total{l=\"y\"} 0\n", text(t, s))
}
