package proc

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/procfs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMemoryLimit(t *testing.T) {
	dir := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(dir, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	second := []procfs.Cgroup{{Path: "/a/b"}}
	assert.Zero(t, memoryLimit(dir, nil))
	assert.Zero(t, memoryLimit(dir, second))
	write("a/b/memory.max", "max\n")
	assert.Zero(t, memoryLimit(dir, second))
	write("a/memory.max", "5000\n")
	assert.Equal(t, int64(5000), memoryLimit(dir, second), "the parent's limit is one too")
	write("a/b/memory.max", "4000\n")
	assert.Equal(t, int64(4000), memoryLimit(dir, second))
	write("memory/c/memory.limit_in_bytes", "300\n")
	first := procfs.Cgroup{HierarchyID: 4, Controllers: []string{"cpu", "memory"}, Path: "/c"}
	assert.Equal(t, int64(300), memoryLimit(dir, append(second, first)))
}
