package main

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestJoinNegative(t *testing.T) {
	for _, c := range []struct{ in, out []string }{
		{[]string{"demo", "--workers", "-1"}, []string{"demo", "--workers=-1"}},
		{[]string{"demo", "--workers=-1"}, []string{"demo", "--workers=-1"}},
		{[]string{"demo", "--workers", "1"}, []string{"demo", "--workers", "1"}},
		{[]string{"demo", "--workers", "-x"}, []string{"demo", "--workers", "-x"}},
		{[]string{"demo", "-1"}, []string{"demo", "-1"}},
		{[]string{"run", "--", "nice", "--by", "-1"}, []string{"run", "--", "nice", "--by", "-1"}},
		{nil, []string{}},
	} {
		assert.Equal(t, c.out, joinNegative(c.in), c.in)
	}
}

func TestSpan(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "500ms": 500 * time.Millisecond, "25s": 25 * time.Second, "2m": 2 * time.Minute, "24h": 24 * time.Hour,
		"1d": 24 * time.Hour, "1.5d": 36 * time.Hour,
	} {
		var d span
		assert.NoError(t, d.Set(in), in)
		assert.Equal(t, want, time.Duration(d), in)
		if want == 0 {
			want = -1
		}
		assert.Equal(t, want, d.config(), in)
	}
	for _, in := range []string{"", "soon", "-1s", "-1d", "5", "d", "NaNd", "1e300d", "Infd"} {
		var d span
		assert.ErrorContains(t, d.Set(in), "write it as", in)
	}
}

func TestWorkerCount(t *testing.T) {
	for _, in := range []string{"1", "4", "1024"} {
		var n workerCount
		assert.NoError(t, n.Set(in))
		assert.Equal(t, in, n.String())
	}
	for _, in := range []string{"0", "-1", "", "1025", "2.5", "99999999999999999999", "four"} {
		var n workerCount
		assert.ErrorContains(t, n.Set(in), "give 1 to 1024", in)
	}
}

func TestRequestCount(t *testing.T) {
	for _, in := range []string{"0", "1", "4294967295"} {
		var n requestCount
		assert.NoError(t, n.Set(in))
		assert.Equal(t, in, n.String())
	}
	for _, in := range []string{"-1", "", "2.5", "4294967296", "many"} {
		var n requestCount
		assert.ErrorContains(t, n.Set(in), "0 for never", in)
	}
}

func TestFraction(t *testing.T) {
	for _, in := range []string{"0", "0.1", "0.99"} {
		var f fraction
		assert.NoError(t, f.Set(in))
		assert.Equal(t, in, f.String())
	}
	for _, in := range []string{"1", "-0.1", "NaN", "Inf", "", "a lot"} {
		var f fraction
		assert.Error(t, f.Set(in), in)
	}
	assert.Equal(t, -1.0, fraction(0).config())
	assert.Equal(t, 0.1, fraction(0.1).config())
}

func TestSignalName(t *testing.T) {
	for in, want := range map[string]syscall.Signal{
		"TERM": syscall.SIGTERM, "SIGTERM": syscall.SIGTERM, "quit": syscall.SIGQUIT, "usr1": syscall.SIGUSR1,
	} {
		var s signalName
		assert.NoError(t, s.Set(in), in)
		assert.Equal(t, want, s.Signal, in)
	}
	for _, in := range []string{"", "KILL", "STOP", "15", "NOPE"} {
		var s signalName
		assert.ErrorContains(t, s.Set(in), "TERM", in)
	}
}
