package master

import (
	"math/rand/v2"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/master/internal/environment"
	"github.com/onescrape/onescrape/master/internal/reuseport"
)

func TestDefaults(t *testing.T) {
	t.Setenv("ONESCRAPE_DIR", "/some/where")
	c, err := Config{}.complete(true)
	require.NoError(t, err)
	assert.Equal(t, runtime.GOMAXPROCS(0), c.Workers)
	assert.Equal(t, "127.0.0.1:9464", c.MetricsListen)
	assert.Equal(t, "/metrics", c.TelemetryPath)
	assert.Equal(t, "/some/where", c.Store)
	assert.Equal(t, 25*time.Second, c.GracefulTimeout)
	assert.Equal(t, time.Second, c.Linger)
	assert.Equal(t, 30*time.Second, c.ReadyTimeout)
	assert.Zero(t, c.ReadySettle)
	assert.InDelta(t, 0.1, c.Jitter, 0)
	assert.Equal(t, syscall.SIGTERM, c.StopSignal)
	assert.NotNil(t, c.Logger)

	c, err = Config{Command: []string{"/usr/bin/gunicorn"}, Linger: -1, Jitter: -1, Store: "/x"}.complete(false)
	require.NoError(t, err)
	assert.Equal(t, "gunicorn", c.Service)
	assert.Equal(t, 2*time.Second, c.ReadySettle)
	assert.Zero(t, c.Linger)
	assert.Zero(t, c.Jitter)
	assert.Equal(t, "/x", c.Store)
}

func TestBadConfigs(t *testing.T) {
	for want, c := range map[string]Config{
		"Config.Workers is -1":              {Workers: -1},
		"Config.Workers is 5000":            {Workers: 5000},
		"Config.MaxRequests is -1":          {MaxRequests: -1},
		"Config.Jitter is 2":                {Jitter: 2},
		"exclude each other":                {Command: []string{"x"}},
		"Config.StopSignal is killed":       {StopSignal: os.Kill},
		`listen address "8080"`:             {Listen: []string{"8080"}},
		`listen address "=:80"`:             {Listen: []string{"=:80"}},
		`listen address "a b=:80"`:          {Listen: []string{"a b=:80"}},
		`lacks the path`:                    {Listen: []string{"unix:"}},
		"is given twice":                    {Listen: []string{":80", "name=:80"}},
		`metrics address "9464"`:            {MetricsListen: "9464"},
		`"metrics" must begin with a /`:     {TelemetryPath: "metrics"},
		"/-/ready is taken by the endpoint": {TelemetryPath: "/-/ready"},
	} {
		_, err := c.complete(true)
		assert.ErrorContains(t, err, want)
	}
	_, err := Config{}.complete(false)
	assert.ErrorContains(t, err, "nothing to run")
	_, err = Config{Command: []string{""}}.complete(false)
	assert.ErrorContains(t, err, "empty name")
}

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]reuseport.Address{
		":8080":                  {Network: "tcp", Addr: ":8080"},
		"web=[::1]:80":           {Name: "web", Network: "tcp", Addr: "[::1]:80"},
		"unix:/run/a=b":          {Network: "unix", Addr: "/run/a=b"},
		"admin=unix:@abstract":   {Name: "admin", Network: "unix", Addr: "@abstract"},
		"web-1.x=localhost:http": {Name: "web-1.x", Network: "tcp", Addr: "localhost:http"},
	} {
		got, err := reuseport.ParseAddress(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got)
	}
}

func TestWorkersEnvironment(t *testing.T) {
	c, err := Config{Watchdog: 1500 * time.Millisecond}.complete(true)
	require.NoError(t, err)
	env := environment.Of(environment.Worker{Exec: "/bin/x", Store: "/s", Notify: "@n", Slot: 2, Lifeline: 5,
		Names: []string{"web", "unknown"}, MaxRequests: 7, Settings: c.settings()},
		[]string{"A=1", "LISTEN_FDS=9", "NOTIFY_SOCKET=/systemd", "ONESCRAPE_DIR=/old", "ODD"}, []string{"GOMAXPROCS=1"})
	assert.Equal(t, []string{"A=1", "ODD", "ONESCRAPE_EXEC=/bin/x", "ONESCRAPE_DIR=/s", "ONESCRAPE_SLOT=2",
		"ONESCRAPE_LIFELINE=5", "ONESCRAPE_GRACEFUL_TIMEOUT=25s", "ONESCRAPE_LINGER=1s", "ONESCRAPE_MAX_REQUESTS=7",
		"NOTIFY_SOCKET=@n", "WATCHDOG_USEC=1500000", "LISTEN_FDS=2", "LISTEN_FDNAMES=web:unknown", "GOMAXPROCS=1"}, env)
}

func TestLimits(t *testing.T) {
	assert.Equal(t, []string{"GOMAXPROCS=1"}, environment.Limits(nil, 2, 4, 0))
	assert.Equal(t, []string{"GOMAXPROCS=3", "GOMEMLIMIT=225"}, environment.Limits(nil, 8, 3, 750))
	assert.Equal(t, []string{"GOMEMLIMIT=900"}, environment.Limits([]string{"GOMAXPROCS=9"}, 8, 1, 1000))
	assert.Empty(t, environment.Limits([]string{"GOMAXPROCS=9", "GOMEMLIMIT=off"}, 8, 1, 1000))
}

func TestBackoff(t *testing.T) {
	assert.Zero(t, backoff(0, 1))
	for failures, most := range map[int]time.Duration{1: 25 * time.Millisecond, 2: 50 * time.Millisecond,
		5: 400 * time.Millisecond, 11: 25600 * time.Millisecond, 12: 30 * time.Second, 100: 30 * time.Second} {
		for range 100 {
			assert.LessOrEqual(t, backoff(failures, rand.Float64()), most)
			assert.GreaterOrEqual(t, backoff(failures, rand.Float64()), most/2)
		}
	}
}

func TestJittered(t *testing.T) {
	assert.Equal(t, int64(100), jittered(int64(100), 0, 1))
	assert.Zero(t, jittered(time.Duration(0), 1, 1))
	for range 100 {
		v := jittered(int64(1000), 0.1, rand.Float64())
		assert.GreaterOrEqual(t, v, int64(900))
		assert.LessOrEqual(t, v, int64(1100))
		assert.Positive(t, jittered(int64(1), 1, rand.Float64()), "a limit of 0 would be none")
	}
}
