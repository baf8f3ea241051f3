package integration

import (
	"archive/zip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	corePath = "github.com/onescrape/onescrape"
	adapters = "worker/httpmetrics"
)

// published writes a module below root, which is a folder of this repository, into a module proxy in dir, as a release of it would
// have it: without the modules below it.
func published(t *testing.T, dir, root, path, version string) {
	t.Helper()
	at := filepath.Join(dir, path, "@v")
	require.NoError(t, os.MkdirAll(at, 0o700))
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	for name, text := range map[string]string{"list": version + "\n", version + ".mod": string(mod),
		version + ".info": fmt.Sprintf(`{"Version":%q,"Time":"2026-01-01T00:00:00Z"}`, version)} {
		require.NoError(t, os.WriteFile(filepath.Join(at, name), []byte(text), 0o600))
	}
	out, err := os.Create(filepath.Join(at, version+".zip"))
	require.NoError(t, err)
	defer out.Close()
	z := zip.NewWriter(out)
	require.NoError(t, filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			_, err := os.Stat(filepath.Join(file, "go.mod"))
			if entry.Name() == ".git" || file != root && err == nil {
				return fs.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		in, err := os.Open(file)
		if err != nil {
			return err
		}
		defer in.Close()
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		w, err := z.Create(path + "@" + version + "/" + filepath.ToSlash(rel))
		if err != nil {
			return err
		}
		_, err = io.Copy(w, in)
		return err
	}))
	require.NoError(t, z.Close())
}

// goTool runs the go command in a folder, with a module cache and a proxy of its own, and returns what it wrote.
func goTool(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "go %s: %s", strings.Join(args, " "), out)
	return string(out)
}

// The core and each adapter can be installed into a module that knows nothing of this repository, at the version that the adapters
// require, and compile there.
func TestGoGet(t *testing.T) {
	long(t)
	if race {
		t.Skip("the go command is another program, with or without the race detector here")
	}
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	mods, err := filepath.Glob(filepath.Join(root, adapters, "*", "go.mod"))
	require.NoError(t, err)
	require.Len(t, mods, 5, "adapters")
	required := regexp.MustCompile(`(?m)^\s*(?:require )?` + corePath + ` (v\S+)$`)
	version := ""
	for _, mod := range mods {
		text, err := os.ReadFile(mod)
		require.NoError(t, err)
		found := required.FindStringSubmatch(string(text))
		require.NotNil(t, found, "%s requires no version of the core", mod)
		require.NotEqual(t, "v0.0.0", found[1], "%s: there is no such version", mod)
		if version == "" {
			version = found[1]
		}
		assert.Equal(t, version, found[1], mod)
		assert.Contains(t, string(text), "replace "+corePath+" => ../../..", "for development")
	}

	proxy := t.TempDir()
	published(t, proxy, root, corePath, version)
	for _, mod := range mods {
		dir := filepath.Dir(mod)
		published(t, proxy, dir, corePath+"/"+adapters+"/"+filepath.Base(dir), version)
	}
	get := func(name string) string {
		out, err := exec.Command("go", "env", name).Output()
		require.NoError(t, err)
		return strings.TrimSpace(string(out))
	}
	env := []string{"GOMODCACHE=" + filepath.Join(t.TempDir(), "mod"), "GOFLAGS=-modcacherw", "GOSUMDB=off", "GOWORK=off",
		"GOPROXY=file://" + proxy + ",file://" + filepath.Join(get("GOMODCACHE"), "cache", "download") + "," + get("GOPROXY")}
	install := func(t *testing.T, path, pkg string) {
		app := t.TempDir()
		goTool(t, app, env, "mod", "init", "example.com/app")
		goTool(t, app, env, "get", path+"@"+version)
		program := fmt.Sprintf("package app\n\nimport _ %q\n", pkg)
		require.NoError(t, os.WriteFile(filepath.Join(app, "app.go"), []byte(program), 0o600))
		goTool(t, app, env, "mod", "tidy")
		goTool(t, app, env, "build", "./...")
		list := goTool(t, app, env, "list", "-m", corePath)
		assert.Equal(t, corePath+" "+version, strings.TrimSpace(list), "and no replacement")
	}
	t.Run("core", func(t *testing.T) { install(t, corePath, corePath+"/master") })
	for _, mod := range mods {
		name := filepath.Base(filepath.Dir(mod))
		t.Run(name, func(t *testing.T) { install(t, corePath+"/"+adapters+"/"+name, corePath+"/"+adapters+"/"+name) })
	}
}
