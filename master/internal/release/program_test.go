package release

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestProgramKeepsLinks(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	for _, sub := range []string{"releases", "releases/1"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o700))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "releases/1/app"), []byte("#!/bin/sh\n"), 0o700))
	require.NoError(t, os.Symlink("releases/1", filepath.Join(dir, "current")))
	t.Chdir(dir)
	assert.Equal(t, filepath.Join(dir, "current/app"), called([]string{"current/app", "-x"}).Path)
	t.Setenv("PATH", filepath.Join(dir, "current"))
	assert.Equal(t, filepath.Join(dir, "current/app"), called([]string{"app"}).Path)
	self, err := os.Executable()
	require.NoError(t, err)
	assert.Equal(t, self, called([]string{"no-such-program"}).Path)
	assert.Equal(t, self, called(nil).Path)
}
