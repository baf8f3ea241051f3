package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStoreInADirectoryForAll(t *testing.T) {
	for _, dir := range []string{"/tmp", "/dev/shm"} {
		if info, err := os.Stat(dir); err != nil || info.Mode()&os.ModeSticky == 0 {
			t.Skip(dir + " is not shared here")
		}
		r := command(t, "run", "--store.path", dir, "--web.listen-address", "off", "--", "true")
		refused(t, r, dir+" is an unsafe directory: all users share it (mode 01777); give the store a directory of its own, for example "+
			dir+"/NAME")
		assert.NotContains(t, r.stderr, "chmod")
	}
}

func TestListenOnTheMetricsAddress(t *testing.T) {
	addr := freeAddress(t)
	r := command(t, "demo", "--listen", addr, "--web.listen-address", addr, "--store.path", filepath.Join(t.TempDir(), "store"))
	refused(t, r, "the listen address "+addr+" and the metrics address "+addr+" are the same: give one of them another port")
}

// commandAsNobody runs the command as a user that is not root.
func commandAsNobody(t *testing.T, args ...string) result {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	dir, err := os.MkdirTemp("/tmp", "onescrape-nobody-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	program := filepath.Join(dir, "onescrape")
	text, err := os.ReadFile(onescrape)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(program, text, 0o755))
	cmd := exec.Command(program, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	p := launch(t, cmd)
	status := p.wait()
	return result{status, p.stdout.String(), p.stderr.String()}
}

// A directory that may not be read is refused at the start; before, ready said 200 while nothing was ever read.
func TestPythonDirectoryThatMayNotBeRead(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	for _, verb := range []string{"serve", "run"} {
		args := []string{verb, "--python-dir", dir, "--web.listen-address", "127.0.0.1:0"}
		if verb == "run" {
			args = append(args, "--store.path", filepath.Join(t.TempDir(), "store"), "--", "true")
		}
		r := commandAsNobody(t, args...)
		refused(t, r, "--python-dir: ", dir, "permission denied",
			"uid 65534 may not read it: run as the user of the server, or give this one access (chmod g+rx with a common group, setfacl)")
	}
}

// Files of another user in a directory that everybody can write to are left out, with what to do.
func TestPythonDirectoryForAll(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o777))
	file := filepath.Join(dir, "counter_1.db")
	require.NoError(t, os.WriteFile(file, make([]byte, 1024), 0o644))
	require.NoError(t, os.Chown(file, 65534, 65534))
	addr := freeAddress(t)
	s := launch(t, exec.Command(onescrape, "serve", "--python-dir", dir, "--web.listen-address", addr))
	eventually(t, "the advice", func() bool {
		return strings.Contains(s.stderr.String(), "give the directory to the server's user with mode 0700 (chown 65534, chmod 0700)")
	})
	s.signal(syscall.SIGTERM)
	s.wait()
}

func TestWithoutProc(t *testing.T) {
	long(t)
	a := newApart(t)
	hide := exec.Command("nsenter", "-t", strconv.Itoa(a.pid), "-m", "mount", "-t", "tmpfs", "tmpfs", "/proc")
	out, err := hide.CombinedOutput()
	require.NoError(t, err, "%s", out)
	r := a.do("run", "--service", "web", "--web.listen-address", "off", "--", "true")
	refused(t, r, "/proc is not mounted: mount it (mount -t proc proc /proc)")
}

// The default store of a service is another user's: the message says whose, and where to keep it.
func TestDefaultStoreOfAnotherUser(t *testing.T) {
	a := newApart(t)
	store := "/proc/" + strconv.Itoa(a.pid) + "/root/dev/shm/onescrape-0-web"
	require.NoError(t, os.Mkdir(store, 0o700))
	require.NoError(t, os.Chown(store, 65534, 65534))
	r := a.do("run", "--service", "web", "--web.listen-address", "off", "--", "true")
	refused(t, r, "it belongs to uid 65534 and this process is uid 0", "such as --store.path /run/web")
}

// status shows what a worker says of itself.
func TestStatusShowsWhatWorkersSay(t *testing.T) {
	script := `python3 -c '
import os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
a = os.environ["NOTIFY_SOCKET"]
s.connect("\0" + a[1:] if a[0] == "@" else a)
s.send(b"READY=1\nSTATUS=warming the cache")
time.sleep(600)'`
	peer(t, "python3", "python3")
	s := startRun(t, nil, 1, quick, "sh", "-c", "exec "+script)
	eventually(t, "the text", func() bool { return strings.Contains(s.control(t, "status"), "warming the cache") })
	assert.Contains(t, s.control(t, "status"), "SAYS")
	s.signal(syscall.SIGINT)
	s.wait()
}

// The programs of the documents end a clean stop without a line and with 0.
func TestExamplesDoNotFailAfterACleanStop(t *testing.T) {
	files := []string{"../README.md", "../worker/export_example_test.go"}
	pages, err := filepath.Glob("../docs/*.md")
	require.NoError(t, err)
	sources, err := filepath.Glob("examples/*/*.go")
	require.NoError(t, err)
	for _, file := range append(append(files, pages...), sources...) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.NotContains(t, string(text), "log.Fatal(master.Run(", file)
	}
}

// What is right and was not said is in the reference.
func TestReferenceSaysWhatIsRight(t *testing.T) {
	text, err := os.ReadFile("../docs/reference.md")
	require.NoError(t, err)
	for _, words := range []string{
		"httpHeaders: [{name: Authorization", "exec: {command: [onescrape, status",
		"A counter of `NewCounterFunc` has a created timestamp", "drops timestamps of samples, and exemplars without one",
		"`_sum` can lack observations", "stays at 1e308", "reads its certificate files at each handshake",
		"stays `starting` for 30 s", "ONESCRAPE_SINGLE=1", "--store.path /run/NAME",
	} {
		assert.Contains(t, string(text), words)
	}
}
