package proc

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// MemoryLimit returns the memory limit of this process's cgroup in bytes, the lowest of it and its parents; 0: none.
func MemoryLimit() int64 {
	self, err := process(os.Getpid())
	if err != nil {
		return 0
	}
	groups, err := self.Cgroups()
	if err != nil {
		return 0
	}
	return memoryLimit("/sys/fs/cgroup", groups)
}

// memoryLimit reads the limits below root, where the cgroups of the second version are, and those of the first in a directory
// for each controller.
func memoryLimit(root string, groups []procfs.Cgroup) (limit int64) {
	for _, g := range groups {
		base, file := root, "memory.max"
		switch {
		case g.HierarchyID == 0 && len(g.Controllers) == 0:
		case slices.Contains(g.Controllers, "memory"):
			base, file = filepath.Join(root, "memory"), "memory.limit_in_bytes"
		default:
			continue
		}
		for dir := filepath.Clean("/" + g.Path); ; dir = filepath.Dir(dir) {
			if n := limitIn(filepath.Join(base, dir, file)); n > 0 && (limit == 0 || n < limit) {
				limit = n
			}
			if dir == "/" {
				break
			}
		}
	}
	return limit
}

// limitIn returns the limit that a file states; 0 when it states none.
func limitIn(file string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return max(0, n)
}
