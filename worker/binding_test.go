package worker

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// byEnvironment returns a registry that looks at the test's environment.
func byEnvironment(t *testing.T) (*registry, *logBuffer) {
	r := newRegistry(fromEnvironment)
	t.Cleanup(func() { require.NoError(t, r.detach()) })
	return r, r.logTo()
}

// state returns what the registry's file says of its process.
func state(t *testing.T, r *registry) (shmstore.Info, shmstore.State) {
	reader, err := r.binding.dir.Open(r.binding.writer.Name())
	require.NoError(t, err)
	defer reader.Close()
	s, err := reader.State()
	require.NoError(t, err)
	return reader.Info(), s
}

func TestBoundByTheEnvironment(t *testing.T) {
	path := storeDir(t)
	t.Setenv("ONESCRAPE_DIR", path)
	t.Setenv("ONESCRAPE_SLOT", "7")
	r, log := byEnvironment(t)
	require.NoDirExists(t, path, "nothing happens before there is a metric")
	r.newCounter(copts).Inc()
	info, s := state(t, r)
	require.Equal(t, os.Getpid(), info.PID)
	require.Equal(t, 7, info.Slot)
	require.False(t, s.Ready)
	r.storeReady()
	_, s = state(t, r)
	require.True(t, s.Ready)
	require.False(t, s.Drained)
	r.storeDrained()
	r.storeDrained()
	_, s = state(t, r)
	require.True(t, s.Drained)
	n, reason := r.storeless()
	require.Zero(t, n)
	require.NoError(t, reason)
	require.Empty(t, log.String())
}

func TestReadyBeforeBound(t *testing.T) {
	r := inMemory(t)
	r.storeReady()
	r.storeDrained()
	require.NoError(t, r.open(storeDir(t), 0))
	_, s := state(t, r)
	require.True(t, s.Ready)
	require.False(t, s.Drained)
}

func TestSlotIsClaimed(t *testing.T) {
	path := storeDir(t)
	t.Setenv("ONESCRAPE_DIR", path)
	for want := range 2 {
		r, _ := byEnvironment(t)
		r.newCounter(copts)
		info, _ := state(t, r)
		require.Equal(t, want, info.Slot)
	}
}

func TestNoWriter(t *testing.T) {
	path := storeDir(t)
	t.Setenv("ONESCRAPE_DIR", path)
	t.Run("it will become another program", func(t *testing.T) {
		t.Setenv("ONESCRAPE_EXEC", "/bin/server")
		r, log := byEnvironment(t)
		r.newCounter(copts)
		require.NoDirExists(t, path)
		require.Empty(t, log.String())
	})
	t.Run("it was detached before", func(t *testing.T) {
		r, _ := byEnvironment(t)
		require.NoError(t, r.detach())
		r.newCounter(copts)
		require.NoDirExists(t, path)
	})
}

func TestStoreThatCannotBeUsed(t *testing.T) {
	file := storeDir(t)
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for name, c := range map[string]struct{ dir, slot, reason string }{
		"a file":    {file, "0", "director"},
		"no parent": {file + "-missing/store", "0", "parent does not exist"},
		"no slot":   {storeDir(t), "first", `ONESCRAPE_SLOT="first" is not the number of a slot`},
		"no number": {storeDir(t), "-3", "is not the number of a slot"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("ONESCRAPE_DIR", c.dir)
			t.Setenv("ONESCRAPE_SLOT", c.slot)
			r, log := byEnvironment(t)
			r.newCounter(copts).Inc()
			v := r.newGaugeVec(gopts, []string{"a"}, Sum)
			v.WithLabelValues("x").Set(2)
			v.WithLabelValues("y").Set(3)
			n, reason := r.storeless()
			require.Equal(t, 3, n)
			require.ErrorContains(t, reason, c.reason)
			require.Equal(t, 1, strings.Count(log.String(), "\n"), log)
			require.Contains(t, log.String(), "level=ERROR")
			require.NoError(t, testutil.GatherAndCompare(gatherer{r}, strings.NewReader(`
				# HELP m_total A help.
				# TYPE m_total counter
				m_total 1
			`), "m_total"))

			require.NoError(t, r.open(storeDir(t), 0), "another one can")
			n, reason = r.storeless()
			require.Zero(t, n)
			require.NoError(t, reason)
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	file := storeDir(t)
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	r := inMemory(t)
	c := r.newCounter(copts)
	c.Inc()
	require.ErrorContains(t, r.open(file, 0), "worker: open "+file+": ")
	c.Inc()
	require.EqualValues(t, 2, testutil.ToFloat64(c))
	n, reason := r.storeless()
	require.Zero(t, n, "the environment named none")
	require.NoError(t, reason)
}

func TestSeriesThatGetNoSpace(t *testing.T) {
	r := inMemory(t)
	log := r.logTo()
	r.binding.limit = 64 << 10
	require.NoError(t, r.open(storeDir(t), 0))
	v := r.newHistogramVec(hopts, []string{"a"})
	const n = 1000
	for i := range n {
		v.WithLabelValues(strconv.Itoa(i)).Observe(1)
	}
	lost := 0
	for s := range v.def.table.Load().all() {
		require.EqualValues(t, 1, written(t, s.metric).Histogram.GetSampleCount())
		if s.stored == nil {
			lost++
		}
	}
	require.NotZero(t, lost)
	require.Less(t, lost, n)
	_, s := state(t, r)
	require.Equal(t, lost, s.Overflow)
	require.Equal(t, 1, strings.Count(log.String(), "\n"), log)
	require.Contains(t, log.String(), "the store did not take a series")

	v.Reset()
	_, s = state(t, r)
	require.Zero(t, s.Overflow)

	// A counter's cells may not be reused yet, so the file is still full.
	c := r.newCounter(prometheus.CounterOpts{Name: strings.Repeat("x", 9000)})
	c.Inc()
	require.EqualValues(t, 1, testutil.ToFloat64(c), "nor is there space for its definition")
}
