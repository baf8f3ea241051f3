package integration

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// soon is the time for a worker, or a master, that never gets ready to be given up. A good one must need less, however
// busy the machine is.
var soon = map[bool]string{false: "4s", true: "20s"}[race]

// releases is a directory as deployments have it: current is a link to one of several.
type releases struct {
	t   *testing.T
	dir string
}

func newReleases(t *testing.T) *releases { return &releases{t, t.TempDir()} }

// add makes a release whose program is a shell script.
func (r *releases) add(name, script string) {
	r.t.Helper()
	require.NoError(r.t, os.Mkdir(filepath.Join(r.dir, name), 0o755))
	require.NoError(r.t, os.WriteFile(filepath.Join(r.dir, name, "web"), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
}

// addWeb makes a release that answers with its name.
func (r *releases) addWeb(name string, env ...string) {
	argv, environ := asRole("web", append(env, "ONESCRAPE_TEST_RELEASE="+name)...)
	script := "exec env"
	for _, e := range environ {
		script += " '" + e + "'"
	}
	r.add(name, script+" "+argv[0])
}

// use switches the link, in one step.
func (r *releases) use(name string) {
	r.t.Helper()
	next := filepath.Join(r.dir, "next")
	require.NoError(r.t, os.Symlink(filepath.Join(r.dir, name), next))
	require.NoError(r.t, os.Rename(next, filepath.Join(r.dir, "current")))
}

// program is the path that the command line names.
func (r *releases) program() string { return filepath.Join(r.dir, "current", "web") }

// answers are what the server says now, of several requests.
func (s *server) answers(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for range 20 {
		code, body, err := get("http://" + s.app + "/")
		require.NoError(t, err)
		require.Equal(t, 200, code)
		found[string(body)] = true
	}
	return found
}

// A release that is switched to by its link: by a reload, and by an upgrade of the master.
func TestReleaseIsFollowed(t *testing.T) {
	long(t)
	r := newReleases(t)
	r.addWeb("one")
	r.addWeb("two")
	r.addWeb("three")
	r.use("one")
	s := startRun(t, nil, 2, append([]string{"--ready-settle", "0s"}, quick...), r.program())
	assert.Equal(t, map[string]bool{"one": true}, s.answers(t))
	r.use("two")
	s.control(t, "reload")
	assert.Equal(t, map[string]bool{"two": true}, s.answers(t))
	r.use("three")
	s.control(t, "upgrade")
	assert.Equal(t, map[string]bool{"three": true}, s.answers(t))
	assert.Equal(t, 60.0, mustScrape(t, s.metrics).sum("web_requests_total"))
}

// A release that cannot take over: the service goes on as it was, and everybody is told why.
func TestBadRelease(t *testing.T) {
	long(t)
	for _, c := range []struct {
		name  string
		add   func(r *releases)
		flags []string
		words []string
		dies  bool // while it answers
	}{
		{"exits at start", func(r *releases) { r.add("bad", "exit 7") }, nil, []string{"exit status 7"}, false},
		{"never says ready", func(r *releases) { r.add("bad", "exec sleep 600") }, []string{"--ready-timeout", soon},
			[]string{"ready"}, false},
		{"is ready and dies a second later", func(r *releases) { r.addWeb("bad", lifetime+"=1s") },
			[]string{"--ready-settle", "3s"}, []string{"exit status 9"}, true},
		{"is missing", func(r *releases) { require.NoError(r.t, os.Mkdir(filepath.Join(r.dir, "bad"), 0o755)) }, nil,
			[]string{"web"}, false},
	} {
		for _, verb := range []string{"reload", "upgrade"} {
			t.Run(c.name+", "+verb, func(t *testing.T) {
				t.Parallel() // most of it is waiting
				r := newReleases(t)
				r.addWeb("good")
				c.add(r)
				r.use("good")
				flags := append(append([]string{}, quick...), c.flags...)
				if !c.dies {
					flags = append(flags, "--ready-settle", "0s")
				}
				s := startRun(t, nil, 2, flags, r.program())
				before := s.workers()
				m := startMonitor(s.metrics, monitorOptions{})
				load := startLoad(s.app, 4, false)
				r.use("bad")

				result := command(t, verb, "--store.path", s.store)
				refused(t, result, append([]string{verb + " abandoned"}, c.words...)...)
				for _, words := range c.words {
					assert.Contains(t, s.control(t, "status"), words)
				}
				rollout := s.status().Rollout
				if assert.NotNil(t, rollout) {
					assert.Equal(t, "abandoned", rollout.State)
					assert.Equal(t, verb, rollout.Kind)
					assert.NotEmpty(t, rollout.Error)
				}
				assert.Equal(t, before, s.workers(), "the old workers go on")
				assert.Equal(t, map[string]bool{"good": true}, s.answers(t))

				r.use("good")
				s.control(t, verb)
				load.stop()
				// What a worker was answering when it died is lost, and nothing else.
				if c.dies {
					assert.LessOrEqual(t, load.failed.Load(), int64(4), "%v", load.failures())
				} else {
					assert.Zero(t, load.failed.Load(), "%v", load.failures())
				}
				m.stop(t)
				counted := int64(mustScrape(t, s.metrics).sum("web_requests_total"))
				assert.LessOrEqual(t, load.answered.Load()+20, counted)
				assert.LessOrEqual(t, counted, load.sent.Load()+20)
			})
		}
	}
}

// A new binary of the master itself, which is checked before it takes over.
func TestBadMaster(t *testing.T) {
	long(t)
	for name, make := range map[string]func(t *testing.T, path string){
		"exits": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\nexit 7\n"), 0o755))
		},
		"refuses its flags": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\nexec "+onescrape+" demo --flag-of-another-age\n"), 0o755))
		},
		"is no program": func(t *testing.T, path string) { require.NoError(t, os.WriteFile(path, []byte("text"), 0o755)) },
		"is missing":    func(*testing.T, string) {},
		"hangs": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\nexec sleep 600\n"), 0o755))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := "60s"
			if name == "hangs" {
				timeout = soon
			}
			dir := t.TempDir()
			link := filepath.Join(dir, "onescrape")
			require.NoError(t, os.Symlink(onescrape, link))
			s := newServer(t)
			s.startBinary(t, link, nil, "demo", 2, append([]string{"--ready-timeout", timeout}, quick...))
			s.waitReady()
			before := s.workers()
			load := startLoad(s.app, 4, false)

			bad := filepath.Join(dir, "bad")
			make(t, bad)
			require.NoError(t, os.Remove(link))
			require.NoError(t, os.Symlink(bad, link))
			r := command(t, "upgrade", "--store.path", s.store)
			refused(t, r, "upgrade abandoned")
			t.Log(r.stderr)
			assert.Equal(t, before, s.workers())
			assert.Equal(t, s.pid(), s.status().PID)

			require.NoError(t, os.Remove(link))
			require.NoError(t, os.Symlink(onescrape, link))
			s.control(t, "upgrade")
			load.stop()
			assert.Zero(t, load.failed.Load(), "%v", load.failures())
			agree(t, s, load)
		})
	}
}
