package integration

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// apart is a mount namespace with a /dev/shm of its own, so that no other service of this user is found there.
type apart struct {
	t   *testing.T
	pid int
}

func newApart(t *testing.T) *apart {
	t.Helper()
	unshare := peer(t, "unshare", "util-linux")
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	p := launch(t, exec.Command(unshare, "-m", "sh", "-c", "mount -t tmpfs tmpfs /dev/shm && echo mounted && exec sleep 600"))
	eventually(t, "the namespace", func() bool {
		if !p.alive() {
			t.Skip("the kernel refuses a mount namespace: " + p.stderr.String())
		}
		return strings.Contains(p.stdout.String(), "mounted")
	})
	return &apart{t, p.pid()}
}

func (a *apart) args(args ...string) []string {
	return append([]string{"-t", strconv.Itoa(a.pid), "-m", onescrape}, args...)
}

// start starts a service there and waits until it is ready.
func (a *apart) start(verb string, args ...string) *server {
	a.t.Helper()
	s := newServer(a.t)
	flags := []string{verb, "--workers", "1", "--listen", s.app, "--web.listen-address", strings.TrimPrefix(s.base, "http://")}
	s.process = launch(a.t, exec.Command("nsenter", a.args(append(append(flags, quick...), args...)...)...))
	s.waitReady()
	return s
}

// do runs a command there that is no terminal's.
func (a *apart) do(args ...string) result {
	a.t.Helper()
	p := launch(a.t, exec.Command("nsenter", a.args(args...)...))
	status := p.wait()
	return result{status, p.stdout.String(), p.stderr.String()}
}

// answer runs a command there on a terminal on which somebody types an answer.
func (a *apart) answer(text string, args ...string) (string, int) {
	a.t.Helper()
	script := peer(a.t, "script", "bsdutils")
	cmd := exec.Command(script, "-qec", "nsenter "+strings.Join(a.args(args...), " "), "/dev/null")
	cmd.Stdin = strings.NewReader(text + "\n")
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func TestCommandsNameTheService(t *testing.T) {
	a := newApart(t)
	s := a.start("demo", "--service", "shop")
	named := fmt.Sprintf("shop (pid %d, %s demo --workers 1", s.status().PID, onescrape)
	for _, verb := range []string{"reload", "upgrade", "scale 2", "stop"} {
		words := strings.Fields(verb)
		r := a.do(append([]string{words[0], "--service", "shop"}, words[1:]...)...)
		require.Equal(t, 0, r.status, r.stderr)
		require.NotEmpty(t, r.stdout)
		for line := range strings.Lines(r.stdout) {
			assert.True(t, strings.HasPrefix(line, named), line)
		}
	}
	assert.Equal(t, 0, s.wait())
}

// Without a name stop, upgrade and scale do nothing unless somebody on a terminal says yes.
func TestCommandsAskWhichService(t *testing.T) {
	long(t)
	a := newApart(t)
	s := a.start("demo", "--service", "shop")
	pid := s.status().PID
	for _, verb := range []string{"stop", "upgrade", "scale 2"} {
		words := strings.Fields(verb)
		typed := words[0] + " --service shop"
		if len(words) > 1 {
			typed += " " + words[1]
		}
		r := a.do(words...)
		assert.Equal(t, 2, r.status)
		assert.Empty(t, r.stdout)
		assert.Equal(t, 1, strings.Count(r.stderr, "\n"), r.stderr)
		assert.Contains(t, r.stderr, "shop (pid "+strconv.Itoa(pid))
		assert.Contains(t, r.stderr, "nobody named it: type ")
		assert.Contains(t, r.stderr, typed)
		out, status := a.answer("n", words...)
		assert.Equal(t, 2, status, out)
		assert.Contains(t, out, verb+" shop (pid "+strconv.Itoa(pid))
		assert.Contains(t, out, "nothing was done")
	}
	assert.Equal(t, 1, s.status().Workers)
	assert.Nil(t, s.status().Rollout)
	out, status := a.answer("y", "scale", "2")
	assert.Equal(t, 0, status, out)
	assert.Equal(t, 2, s.status().Workers)

	// reload and status, which do no harm, need no name; several services do.
	assert.Equal(t, 0, a.do("reload").status)
	assert.Contains(t, a.do("status").stdout, "shop (pid "+strconv.Itoa(pid))
	other := a.start("demo", "--service", "shop2")
	for _, verb := range []string{"stop", "reload", "status"} {
		r := a.do(verb)
		assert.Equal(t, 2, r.status)
		assert.Contains(t, r.stderr, "which service? Type one of: ")
		for name, s := range map[string]*server{"shop": s, "shop2": other} {
			assert.Contains(t, r.stderr, fmt.Sprintf("%s --service %s (pid %d, %s demo", verb, name, s.status().PID, onescrape))
		}
	}
	r := a.do("stop", "--service", "shop2")
	assert.Equal(t, 0, r.status, r.stderr)
	out, status = a.answer("yes", "stop")
	assert.Equal(t, 0, status, out)
	assert.Equal(t, 0, s.wait())
}

// A service that is named after an interpreter is warned of, and two with names run side by side.
func TestServiceOfAnInterpreter(t *testing.T) {
	const script = "while :; do sleep 1; done"
	for name, c := range map[string]struct {
		flags []string
		warns bool
	}{
		"by default":       {nil, true},
		"with a name":      {[]string{"--service", "one"}, false},
		"with another one": {[]string{"--service", "two"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApart(t)
			argv := append([]string{"run", "--workers", "1", "--web.listen-address", "off"}, c.flags...)
			p := launch(t, exec.Command("nsenter", a.args(append(argv, "--", "sh", "-c", script)...)...))
			eventually(t, "the start", func() bool { return strings.Contains(p.stderr.String(), "master started") })
			assert.Equal(t, c.warns, strings.Contains(p.stderr.String(), "named after an interpreter"), p.stderr.String())
			p.signal(syscall.SIGINT)
			p.wait()
		})
	}
}

func TestServiceFlagIsChecked(t *testing.T) {
	refused(t, command(t, "status", "--service", "a/b"), "--service", "no name of a service")
	refused(t, command(t, "stop", "--service", "web", "--store.path", t.TempDir()), "contradict")
	refused(t, command(t, "run", "--service", "web", "--store.path", t.TempDir(), "--", "true"), "contradict")
}

// Without a terminal a reload prints a line when each slot is done, not only at its end.
func TestReloadReportsEachSlot(t *testing.T) {
	s := startDemo(t, 3, quick...)
	out := s.control(t, "reload")
	for i, pid := range s.workers() {
		assert.Equal(t, 1, strings.Count(out, fmt.Sprintf("): slot %d: pid %d ready\n", i, pid)), out)
	}
	assert.Contains(t, out, "): reload asked for\n")
	assert.NotContains(t, out, "draining")
	assert.Contains(t, out, "): reload done: 3 workers replaced\n")
	assert.Equal(t, 5, strings.Count(out, "\n"), out)
}

// The help of each command says where its store is without flags.
func TestHelpOfTheStore(t *testing.T) {
	for verb, want := range map[string]string{
		"run":     "by default ONESCRAPE_DIR, else one for this user and --service in /dev/shm.",
		"demo":    "by default ONESCRAPE_DIR, else one for this user and --service in /dev/shm.",
		"serve":   "by default ONESCRAPE_DIR. ",
		"status":  "by default ONESCRAPE_DIR, else the store of --service, else this user's only store in /dev/shm",
		"reload":  "else this user's only store in /dev/shm, or the only one there that has a master.",
		"upgrade": "else this user's only store in /dev/shm",
		"scale":   "else this user's only store in /dev/shm",
		"stop":    "else this user's only store in /dev/shm",
		"inspect": "else this user's only store in /dev/shm",
	} {
		r := command(t, verb, "--help")
		assert.Contains(t, strings.Join(strings.Fields(r.stdout), " ")+" ", want, verb)
	}
}

func TestScaleToZero(t *testing.T) {
	r := command(t, "scale", "--store.path", t.TempDir(), "0")
	refused(t, r, `"0" is no number of workers: give 1 to 1024; onescrape stop ends the service`)
	assert.NotContains(t, r.stderr, "leave it out")
}
