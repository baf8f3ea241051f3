package master

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// memoryLimit returns the memory limit of this process's cgroup, the lowest of it and its parents; 0: none.
func memoryLimit() int64 { return memoryLimitIn("/sys/fs/cgroup", "/proc/self/cgroup") }

func memoryLimitIn(root, self string) int64 {
	text, err := os.ReadFile(self)
	if err != nil {
		return 0
	}
	var limit int64
	note := func(file string) {
		b, err := os.ReadFile(file)
		if err != nil {
			return
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err == nil && n > 0 && (limit == 0 || n < limit) {
			limit = n
		}
	}
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 {
			continue
		}
		base, file := root, "memory.max"
		switch {
		case parts[0] == "0" && parts[1] == "":
		case strings.Contains(","+parts[1]+",", ",memory,"):
			base, file = filepath.Join(root, "memory"), "memory.limit_in_bytes"
		default:
			continue
		}
		for dir := filepath.Clean("/" + parts[2]); ; dir = filepath.Dir(dir) {
			note(filepath.Join(base, dir, file))
			if dir == "/" {
				break
			}
		}
	}
	return limit
}
