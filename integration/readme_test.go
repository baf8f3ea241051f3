package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// blocks are a document's blocks of code in that language that say nothing else behind it.
func blocks(t *testing.T, file, language string) []string {
	t.Helper()
	var found []string
	for _, b := range docBlocks(t, file) {
		if b.language == language && b.check == "" {
			found = append(found, b.text)
		}
	}
	return found
}

// The README's program is built as it is there, and serves; only the ports are others.
func TestReadmeProgram(t *testing.T) {
	long(t)
	programs := blocks(t, "README.md", "go")
	require.NotEmpty(t, programs)
	program := programs[0]
	require.LessOrEqual(t, strings.Count(program, "\n"), 40)

	s := newServer(t)
	const there = `Listen: []string{":8080"}`
	require.Contains(t, program, there)
	program = strings.Replace(program, there, `Listen: []string{"`+s.app+`"}, MetricsListen: "`+
		strings.TrimPrefix(s.base, "http://")+`", Store: "`+s.store+`"`, 1)
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "server")
	require.NoError(t, os.WriteFile(source, []byte(program), 0o644))
	require.NoError(t, build(binary, source))

	s.process = launch(t, exec.Command(binary))
	s.waitReady()
	for range 10 {
		code, _, err := get("http://" + s.app + "/job/clean")
		require.NoError(t, err)
		require.Equal(t, 200, code)
	}
	assert.Equal(t, 10.0, mustScrape(t, s.metrics).sum("jobs_total", "kind", "clean"))
}

// The README's commands, as they are typed, with other ports.
func TestReadmeCommands(t *testing.T) {
	long(t)
	const demo, tests = "go run ./cmd/onescrape demo", "go test -timeout 30m ./..."
	s := newServer(t)
	ports := strings.NewReplacer("127.0.0.1:8080", s.app, "127.0.0.1:9464", strings.TrimPrefix(s.base, "http://"))
	seen := map[string]bool{}
	for _, block := range blocks(t, "README.md", "sh") {
		for line := range strings.Lines(block) {
			line = strings.TrimSpace(line)
			seen[line] = true
			switch {
			case line == tests: // which is what runs this
			case line == demo:
				cmd := exec.Command("sh", "-c", "exec "+line+ports.Replace(
					" --listen 127.0.0.1:8080 --web.listen-address 127.0.0.1:9464 --store.path "+s.store))
				cmd.Dir = ".."
				s.process = launch(t, cmd)
				s.waitReady()
				eventually(t, "the welcome", func() bool { return strings.Contains(s.stdout.String(), "Ctrl-C") })
				assert.Contains(t, s.stdout.String(), fmt.Sprintf("answered by %d workers", runtime.GOMAXPROCS(0)))
			case strings.HasPrefix(line, "curl "):
				require.NotNil(t, s.process, "the demo is to be started first")
				if _, err := exec.LookPath("curl"); err != nil {
					missing(t, "curl is not installed (Debian: apt-get install curl)")
				}
				cmd := exec.Command("bash", "-euo", "pipefail", "-c", ports.Replace(line))
				out, err := cmd.CombinedOutput()
				assert.NoError(t, err, "%s: %s", line, out)
				if strings.Contains(line, "grep ^demo_") {
					assert.Contains(t, string(out), `demo_requests_total{code="200",route="/"} 1`)
					assert.Contains(t, string(out), `demo_requests_total{code="500",route="/crash"} 1`)
				}
			default:
				assert.Fail(t, "no test runs this line of the README", line)
			}
		}
	}
	assert.True(t, seen[demo], "the README starts the demo")
	assert.True(t, seen[tests], "the README runs the tests")
}

// Every flag is in the reference, and no other.
func TestReferenceFlags(t *testing.T) {
	flags := map[string]bool{}
	for _, verb := range []string{"run", "demo", "serve"} {
		out, err := exec.Command(onescrape, verb, "--help").CombinedOutput()
		require.NoError(t, err)
		found := regexp.MustCompile(`(?m)^ +(?:-\w, )?--(?:\[no-\])?([a-z.-]+)`).FindAllStringSubmatch(string(out), -1)
		require.Greater(t, len(found), 10, "%s", out)
		for _, m := range found {
			if !strings.HasPrefix(m[1], "help") && m[1] != "version" {
				flags["--"+m[1]] = true
			}
		}
	}
	text, err := os.ReadFile("../docs/reference.md")
	require.NoError(t, err)
	_, table, _ := strings.Cut(string(text), "\n## Flags\n")
	table, _, _ = strings.Cut(table, "\n## ")
	documented := map[string]bool{}
	for line := range strings.Lines(table) {
		if cells := strings.SplitN(line, "|", 3); len(cells) == 3 {
			for _, m := range regexp.MustCompile("`(--[a-z.-]+)`").FindAllStringSubmatch(cells[1], -1) {
				documented[m[1]] = true
			}
		}
	}
	assert.Equal(t, flags, documented)
}

// What the units and the manifest give to the commands exists.
func TestDocsFlags(t *testing.T) {
	for file, verb := range map[string]string{
		"../docs/kubernetes.yaml":                   "run",
		"../docs/systemd/web.service":               "run",
		"../docs/systemd/web-notify-reload.service": "run",
		"../docs/systemd/python-metrics.service":    "serve",
	} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		out, err := exec.Command(onescrape, verb, "--help").CombinedOutput()
		require.NoError(t, err)
		found := 0
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(strings.TrimSpace(line), "#") {
				continue
			}
			for _, flag := range regexp.MustCompile(`--[a-z][a-z.-]*`).FindAllString(line, -1) {
				assert.Contains(t, strings.ReplaceAll(string(out), "[no-]", ""), flag, file)
				found++
			}
		}
		assert.Positive(t, found, file)
	}
}

// Every metric of the master's own is in the reference, and no other.
func TestReferenceMetrics(t *testing.T) {
	text, err := os.ReadFile("../docs/reference.md")
	require.NoError(t, err)
	documented := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if m := regexp.MustCompile("^\\| `(onescrape_[a-z_]+)").FindStringSubmatch(line); m != nil {
			documented[m[1]] = true
		}
	}
	s := startDemo(t, 1)
	exposed := map[string]bool{"onescrape_merge_conflicts_total": true} // which is there when there are some
	for name := range mustScrape(t, s.metrics) {
		if strings.HasPrefix(name, "onescrape_") {
			exposed[name] = true
		}
	}
	assert.Equal(t, exposed, documented)
}

// The README is short, and what it shows in other languages is right.
func TestReadmeIsShort(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	assert.LessOrEqual(t, strings.Count(string(text), "\n"), 250)
}

func TestReadmeScrapeConfig(t *testing.T) {
	promtool := peer(t, "promtool", "prometheus")
	dir := t.TempDir()
	write(t, dir, "prometheus.yml", checkedBlock(t, "README.md", "yaml"))
	out, err := exec.Command(promtool, "check", "config", filepath.Join(dir, "prometheus.yml")).CombinedOutput()
	assert.NoError(t, err, "%s", out)
}

func TestReadmeGunicorn(t *testing.T) {
	long(t)
	peer(t, "gunicorn", "gunicorn")
	dir := t.TempDir()
	write(t, dir, "app.py", helloPython)
	s := startCommandLine(t, checkedBlock(t, "README.md", "sh"), dir)
	code, body, err := get("http://" + s.app + "/")
	require.NoError(t, err)
	assert.Equal(t, 200, code)
	assert.Contains(t, string(body), "hello from python")
}

func TestReadmeServe(t *testing.T) {
	dir := t.TempDir()
	s := startCommandLine(t, checkedBlock(t, "README.md", "sh"), dir, "/run/app/metrics", dir)
	code, _, err := get(s.metrics)
	require.NoError(t, err)
	assert.Equal(t, 200, code)
}
